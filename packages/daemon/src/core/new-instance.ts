import { BerthError, type CreateInstance, type InstanceSpec, type InstanceStatus } from "@berth/api";
import { defaultDiskMib } from "./default-disk.ts";
import { noRestarts } from "./restart-policy.ts";

/** What the node has, for judging a request. */
export interface NodeCapacity {
  readonly cpus: number;
  readonly memoryMib: number;
}

/** The spec of a request. A root disk smaller than its image grows to the image's size. */
export function specOf(request: CreateInstance): InstanceSpec {
  return {
    cpus: request.cpus,
    memoryMib: request.memoryMib,
    disks: [{ name: "root", sizeMib: request.diskMib ?? defaultDiskMib }],
    interfaces: [{ name: "eth0", network: "user" }],
    ports: request.ports,
    env: request.env,
    entrypoint: request.entrypoint ?? null,
    command: request.command ?? null,
    tty: request.tty,
    stopTimeoutMs: request.stopTimeoutMs,
    warm: request.warm,
    restart: request.restart,
    autosuspend: request.autosuspend,
    snapshots: request.snapshots,
    power: request.start ? "running" : "stopped",
    restartGeneration: 0,
  };
}

/** The status of an instance that is being made. */
export function firstStatus(now: string): InstanceStatus {
  return {
    phase: "provisioning",
    ready: false,
    health: "unknown",
    reason: "",
    observedAt: now,
    exitCode: null,
    startedAt: null,
    memoryBytes: null,
    start: null,
    restartGeneration: null,
    ports: [],
    restarts: noRestarts,
    snapshots: null,
    pending: [],
  };
}

/** Refuses what the node could never run. Memory may be over-committed between instances, but not by one alone. */
export function checkCapacity(spec: Pick<InstanceSpec, "cpus" | "memoryMib">, node: NodeCapacity): void {
  if (spec.cpus > node.cpus) {
    throw new BerthError("not_enough_resources", `${spec.cpus} CPUs were asked for; the node has ${node.cpus}.`);
  }
  if (spec.memoryMib > node.memoryMib) {
    throw new BerthError(
      "not_enough_resources",
      `${spec.memoryMib} MiB of memory were asked for; the node has ${node.memoryMib} MiB.`,
    );
  }
}

/** Refuses a request that publishes one host port twice. */
export function checkPorts(ports: InstanceSpec["ports"]): void {
  const seen = new Set<string>();
  for (const port of ports) {
    if (port.hostPort === 0) continue;
    const key = `${port.hostAddress}:${port.hostPort}/${port.protocol}`;
    if (seen.has(key)) throw new BerthError("port_taken", `The request publishes ${key} twice.`);
    seen.add(key);
  }
}
