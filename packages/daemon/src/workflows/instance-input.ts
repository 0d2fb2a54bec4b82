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
});
export type InstanceInput = z.infer<typeof InstanceInput>;
