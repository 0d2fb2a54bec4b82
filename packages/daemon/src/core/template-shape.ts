import type { InstanceSpec } from "@berth/api";

/** Everything that a machine must have in common with the one whose memory it goes on from. */
export interface TemplateShape {
  readonly contentDigest: string;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly disks: number;
  readonly interfaces: number;
  /** The hypervisor, machine type and kit, as the driver names them. */
  readonly build: string;
}

/** The shape of an instance's machine. */
export function shapeOf(
  spec: Pick<InstanceSpec, "cpus" | "memoryMib" | "disks" | "interfaces">,
  contentDigest: string,
  build: string,
): TemplateShape {
  const { cpus, memoryMib, disks, interfaces } = spec;
  return { contentDigest, cpus, memoryMib, disks: disks.length, interfaces: interfaces.length, build };
}

/** A shape as text: the same for equal shapes, another for any other. */
export function shapeText(shape: TemplateShape): string {
  const { contentDigest, cpus, memoryMib, disks, interfaces, build } = shape;
  return JSON.stringify([contentDigest, cpus, memoryMib, disks, interfaces, build]);
}
