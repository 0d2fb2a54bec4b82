import { InstanceSpec, Name } from "@berth/api";
import { z } from "zod";

const { cpus, memoryMib, env, entrypoint, command, tty, ports } = InstanceSpec.shape;

/** What a machine is started with that only another start can change; `ports` with the host ports they really have. */
export const InstanceRun = z.object({ name: Name, cpus, memoryMib, ports, env, entrypoint, command, tty });
export type InstanceRun = z.infer<typeof InstanceRun>;

/** What an instance would be started with now. */
export function runOf(instance: {
  readonly name: string;
  readonly spec: InstanceSpec;
  readonly status: { readonly ports: InstanceSpec["ports"] };
}): InstanceRun {
  const { name, spec, status } = instance;
  const { cpus, memoryMib, env, entrypoint, command, tty } = spec;
  return { name, cpus, memoryMib, ports: status.ports, env, entrypoint, command, tty };
}
