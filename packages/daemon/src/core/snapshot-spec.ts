import { BerthError, type InstanceSpec, type LaunchSnapshot } from "@berth/api";
import { hasVolumes, volumesDisk } from "./volumes.ts";

/** The spec of a new instance from a snapshot: as it was then, with what the request says instead. Its ports are published on free host ports. */
export function specFromSnapshot(then: InstanceSpec, request: LaunchSnapshot): InstanceSpec {
  const { cpus, memoryMib, diskMib, ports, env, entrypoint, command, tty, stopTimeoutMs, restart, snapshots, start } =
    request;
  const [root, ...others] = then.disks;
  if (!root) throw new Error("a spec without a disk");
  if (diskMib !== undefined && diskMib < root.sizeMib) {
    throw new BerthError("invalid_request", `Its disk cannot be smaller than in the snapshot: ${root.sizeMib} MiB.`);
  }
  return {
    ...then,
    ...given({ cpus, memoryMib, tty, stopTimeoutMs, restart, entrypoint, command }),
    disks: [root, ...others].map((disk) => ({ ...disk, sizeMib: Math.max(disk.sizeMib, diskMib ?? 0) })),
    ports: ports ?? then.ports.map((port) => ({ ...port, hostPort: 0 })),
    env: { ...then.env, ...env },
    snapshots,
    // No template has a disk like its.
    warm: "never",
    power: start ? "running" : "stopped",
    restartGeneration: 0,
  };
}

/** What of these was given. */
function given<T extends object>(values: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}

/**
 * Why an instance cannot be put back to a snapshot, in words; undefined when it can. A disk for volumes that it has got since stays as it is. With memory more has to be the same.
 */
export function restoreMismatch(spec: InstanceSpec, then: InstanceSpec, memory: boolean): string | undefined {
  const ignoresVolumes = !memory && !hasVolumes(then.disks);
  const names = ({ disks }: InstanceSpec) =>
    disks
      .map(({ name }) => name)
      .filter((name) => !ignoresVolumes || name !== volumesDisk)
      .join(", ");
  if (names(spec) !== names(then)) return `Its disks are ${names(spec)}; those in the snapshot are ${names(then)}.`;
  if (!memory) return undefined;
  const size = ({ cpus, memoryMib }: InstanceSpec) => `${cpus} CPUs and ${memoryMib} MiB of memory`;
  if (size(spec) === size(then)) return undefined;
  return `It has ${size(spec)}, the snapshot's memory is of ${size(then)}: only its disks can be restored.`;
}

/** What a request wants otherwise that only a boot can change; undefined when there is nothing. */
export function beyondMemory(request: LaunchSnapshot): string | undefined {
  const { cpus, memoryMib, env, entrypoint, command, tty } = request;
  const wanted = { CPUs: cpus, memory: memoryMib, entrypoint, command, terminal: tty };
  if (Object.keys(env).length > 0) return "environment";
  return Object.entries(wanted).find(([, value]) => value !== undefined)?.[0];
}

/** The name of a snapshot that was given none: the instance's, cut where need be, the time in UTC, and a number when it is not the first of that second. */
export function snapshotName(
  instanceName: string,
  now: Date,
  options: { what?: string; number?: number } = {},
): string {
  const { what, number = 1 } = options;
  const time = now.toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
  const ending = `${what ? `-${what}` : ""}-${time}${number > 1 ? `-${number}` : ""}`;
  return `${instanceName.slice(0, 63 - ending.length).replace(/-+$/, "")}${ending}`;
}
