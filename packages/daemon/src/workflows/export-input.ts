import { BerthError } from "@berth/api";
import { z } from "zod";

/** What an export was asked. */
export const ExportInput = z.object({
  archiveId: z.string(),
  environment: z.boolean(),
});
export type ExportInput = z.infer<typeof ExportInput>;

/** Why one that is suspended is not exported. */
export function suspendedError(name: string): BerthError {
  return new BerthError("instance_suspended", `${name} is suspended: its disks are those that its memory goes with.`);
}
