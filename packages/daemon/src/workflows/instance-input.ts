import { type Instance, InstanceSpec } from "@berth/api";
import { z } from "zod";
import type { Claimed } from "../operations/workflow.ts";

/**
 * What an instance operation was asked. The spec says what was asked last, which may be the business of an operation that waits its turn; so each operation
 * keeps its own wish.
 */
export const InstanceInput = z.object({
  force: z.boolean(),
  power: InstanceSpec.shape.power,
  restartGeneration: InstanceSpec.shape.restartGeneration,
  /** Of a delete: whether the instance's snapshots go too. */
  snapshots: z.boolean().default(false),
  /** Of a restore: the snapshot to go back to, and the one that keeps what was; null when that goes. */
  restore: z
    .object({ snapshotId: z.string(), keptId: z.string().nullable(), memory: z.boolean() })
    .nullable()
    .default(null),
  /** Of a rebuild: the image of the new root disk and the reference it was asked by, and the snapshot that keeps what was; null when that goes. */
  rebuild: z
    .object({ imageId: z.string(), reference: z.string(), keptId: z.string().nullable() })
    .nullable()
    .default(null),
  /** A start: boots a suspended one from its disks. */
  cold: z.boolean().default(false),
  /** A suspend: only while nobody has a connection to it. */
  onlyIdle: z.boolean().default(false),
});
export type InstanceInput = z.infer<typeof InstanceInput>;
/** As it is written down: what does not concern the operation is left out. */
export type NewInstanceInput = z.input<typeof InstanceInput>;

/** The image that an operation wants its instance to be of: that of a rebuild, else its own. */
export function imageWanted(operation: Pick<Claimed, "input">, { imageId }: Pick<Instance, "imageId">): string {
  return InstanceInput.parse(operation.input).rebuild?.imageId ?? imageId;
}
