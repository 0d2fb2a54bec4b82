import { z } from "zod";
import { ChangeQuery, idSchema, Name, PageQuery, Timestamp, YesOrNo } from "./common.ts";

/** How many bytes of an archive its `beginning` is the digest of; all of them, when it is shorter. */
export const beginningBytes = 64 * 1024;

/** Where an archive came from. */
export const ArchiveSource = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("export"),
    instance: z.object({ id: idSchema("instance"), name: Name }),
    environment: z.boolean().describe("Whether the instance's own variables are in it."),
  }),
]);
export type ArchiveSource = z.infer<typeof ArchiveSource>;

/** An instance in one file, kept on its node for a while. */
export const Archive = z
  .object({
    id: idSchema("archive"),
    project: Name,
    name: z.string().describe("What its file is called."),
    source: ArchiveSource,
    state: z.enum(["writing", "ready"]),
    sizeBytes: z.number().int().nullable().describe("How long it is; null until known."),
    beginning: z
      .string()
      .nullable()
      .describe(
        "SHA-256 of its first 65,536 bytes, in hex; null until known. Its beginning has the checksums of all that follows, so that a part of a copy is known by it.",
      ),
    operationId: idSchema("operation").nullable().describe("The unfinished operation that holds it, if any."),
    createdAt: Timestamp,
    expiresAt: Timestamp.describe("When it is deleted, unless it is read before."),
  })
  .meta({ id: "Archive" });
export type Archive = z.infer<typeof Archive>;

export const ListArchivesQuery = PageQuery;
/** An archive has no name that is its own, so its path takes the id alone. */
export const ArchiveParams = z.object({ archive: idSchema("archive") });

/** An export; `environment=false` leaves the instance's own variables out, which may hold secrets. */
export const ExportInstanceQuery = ChangeQuery.extend({
  environment: YesOrNo.optional().describe(
    "Whether its own variables, which may be secret, go with it; true when not given.",
  ),
});
