import { InstanceSpec } from "@berth/api";
import { z } from "zod";

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
  /** A start: boots a suspended one from its disks. */
  cold: z.boolean().default(false),
  /** A suspend: only while nobody has a connection to it. */
  onlyIdle: z.boolean().default(false),
});
export type InstanceInput = z.infer<typeof InstanceInput>;
/** As it is written down: what does not concern the operation is left out. */
export type NewInstanceInput = z.input<typeof InstanceInput>;
