import { BerthError, type ForkInstance, type InstanceSpec } from "@berth/api";
import type { InstanceRun } from "./instance-run.ts";

/** What an idle machine takes that goes on from memory it shares with others, in MiB: measured, and rounded up. */
const childMib = 64;
const maxNameLength = 63;

/**
 * The spec of a child: its machine is as its parent's is in the present run, whatever is wished for since. It publishes what is asked for, or what its parent does on free
 * host ports, since the parent keeps its own.
 */
export function specOfChild(parent: InstanceSpec, run: InstanceRun, ports: ForkInstance["ports"]): InstanceSpec {
  const { cpus, memoryMib, env, entrypoint, command, tty } = run;
  return {
    ...parent,
    ...{ cpus, memoryMib, env, entrypoint, command, tty },
    ports: ports ?? parent.ports.map((port) => ({ ...port, hostPort: 0 })),
    warm: "never",
    power: "running",
    restartGeneration: 0,
  };
}

/** Throws `invalid_request` when several children are to publish the same host port. */
export function checkSharedPorts({ count, ports = [] }: Pick<ForkInstance, "count" | "ports">): void {
  const at = ports.findIndex(({ hostPort }) => hostPort !== 0);
  if (count === 1 || at < 0) return;
  const message = `only one of ${count} children could have it; leave it out, and each gets a free one`;
  const path = `body.ports.${at}.hostPort`;
  throw new BerthError("invalid_request", `${path}: ${message}`, { errors: [{ path, message }] });
}

/** The name of the child with this number, from 1; the beginning is cut where need be. */
export function childName(beginning: string, number: number): string {
  const ending = `-${number}`;
  return `${beginning.slice(0, maxNameLength - ending.length).replace(/-+$/, "")}${ending}`;
}

/** Throws `not_enough_resources` when the node lacks the memory: that of the parent is kept once for all children, and each takes some of its own. */
export function checkForkMemory(wish: { count: number; memoryMib: number }, availableMib: number): void {
  const neededMib = wish.memoryMib + wish.count * childMib;
  if (neededMib <= availableMib) return;
  throw new BerthError(
    "not_enough_resources",
    `${availableMib} MiB of memory are free; so many children need ${neededMib} MiB.`,
  );
}
