import { DiskSpec, InstanceSpec, Name } from "@berth/api";
import { z } from "zod";

const { cpus, memoryMib, env, entrypoint, command, tty, ports } = InstanceSpec.shape;

/** What a machine runs with, as it was started or changed since; `ports` with the host ports they really have. */
export const InstanceRun = z.object({
  ...{ name: Name, cpus, memoryMib, ports, env, entrypoint, command, tty },
  /** Of the root disk; runs that began before it could change do not say it. */
  diskMib: DiskSpec.shape.sizeMib.optional(),
});
export type InstanceRun = z.infer<typeof InstanceRun>;

/** What an instance would be started with now. */
export function runOf(instance: {
  readonly name: string;
  readonly spec: InstanceSpec;
  readonly status: { readonly ports: InstanceSpec["ports"] };
}): InstanceRun {
  const { name, spec, status } = instance;
  const { cpus, memoryMib, env, entrypoint, command, tty, disks } = spec;
  return { name, cpus, memoryMib, ports: status.ports, env, entrypoint, command, tty, diskMib: disks[0]?.sizeMib };
}
