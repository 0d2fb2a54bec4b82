import type { InstanceSpec, TemplateApp } from "@berth/api";

/** Everything that a machine must have in common with the one whose memory it goes on from. */
export interface TemplateShape {
  readonly contentDigest: string;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly disks: number;
  readonly interfaces: number;
  /** The hypervisor, machine type and kit, as the driver names them. */
  readonly build: string;
  /** What the image's process was started with, when it was captured with it; null when it is not started yet. */
  readonly app: TemplateApp | null;
}

type ShapedSpec = Pick<InstanceSpec, "cpus" | "memoryMib" | "disks" | "interfaces">;

/** The shape of an instance's machine before its process is started. */
export function shapeOf(spec: ShapedSpec, contentDigest: string, build: string): TemplateShape {
  const { cpus, memoryMib, disks, interfaces } = spec;
  return { contentDigest, cpus, memoryMib, disks: disks.length, interfaces: interfaces.length, build, app: null };
}

/** The shape that an instance wishes to begin from. */
export function wishedShapeOf(spec: InstanceSpec, contentDigest: string, build: string): TemplateShape {
  return { ...shapeOf(spec, contentDigest, build), app: spec.warm === "app" ? appOf(spec) : null };
}

function appOf({ env, entrypoint, command, tty, ports, disks }: InstanceSpec): TemplateApp {
  const watched = ports.filter(({ protocol }) => protocol === "tcp").map(({ guestPort }) => guestPort);
  return {
    env,
    entrypoint,
    command,
    tty,
    ports: [...new Set(watched)].toSorted((a, b) => a - b),
    diskMib: disks[0]?.sizeMib ?? 0,
  };
}

/** A shape as text: the same for equal shapes, another for any other. */
export function shapeText({ app, ...shape }: TemplateShape): string {
  const { contentDigest, cpus, memoryMib, disks, interfaces, build } = shape;
  const parts = [contentDigest, cpus, memoryMib, disks, interfaces, build];
  if (!app) return JSON.stringify(parts);
  const { env, entrypoint, command, tty, ports, diskMib } = app;
  const variables = Object.entries(env).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return JSON.stringify([...parts, variables, entrypoint, command, tty, ports, diskMib]);
}
