import { z } from "zod";

/** What an export was asked. */
export const ExportInput = z.object({
  archiveId: z.string(),
  environment: z.boolean(),
});
export type ExportInput = z.infer<typeof ExportInput>;
