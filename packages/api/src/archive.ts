import { z } from "zod";
import { ChangeQuery, idSchema, Labels, Name, PageQuery, Timestamp, YesOrNo } from "./common.ts";
import { CreateInstance, InstanceSpec, RequestedMemory } from "./instance.ts";

/** How many bytes of an archive its `beginning` is the digest of; all of them, when it is shorter. */
export const beginningBytes = 64 * 1024;

/** Where an archive came from. */
export const ArchiveSource = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("export"),
    instance: z.object({ id: idSchema("instance"), name: Name }).describe("The instance, which may be gone."),
    snapshot: z
      .object({ id: idSchema("snapshot"), name: Name })
      .nullable()
      .describe("The point in time of it; null for the instance as it was."),
    environment: z.boolean().describe("Whether the instance's own variables are in it."),
  }),
  z.object({ type: z.literal("upload") }),
]);
export type ArchiveSource = z.infer<typeof ArchiveSource>;

/** An instance in one file, kept on its node for a while. */
export const Archive = z
  .object({
    id: idSchema("archive"),
    project: Name,
    name: z.string().describe("What its file is called."),
    source: ArchiveSource,
    state: z.enum(["writing", "receiving", "ready"]),
    sizeBytes: z.number().int().nullable().describe("How long it is; null until known."),
    receivedBytes: z.number().int().describe("How much of it is on the node."),
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

/** An archive that is about to be sent. */
export const CreateArchive = z
  .strictObject({
    name: z
      .string()
      .min(1)
      .max(255)
      .regex(/^[^\0/]*$/, "must be a file's name, without its folder")
      .describe("What its file is called."),
    sizeBytes: z
      .number()
      .int()
      .min(1)
      .max(64 * 2 ** 40),
    beginning: z
      .string()
      .regex(/^[0-9a-f]{64}$/, "must be 64 hex digits")
      .describe("SHA-256 of its first 65,536 bytes, in hex: by it the upload is found again."),
  })
  .meta({
    id: "CreateArchive",
    examples: [{ name: "web.berth", sizeBytes: 73_400_320, beginning: "0".repeat(64) }],
  });
export type CreateArchive = z.infer<typeof CreateArchive>;

/** An instance to be made of an archive; what is not given is as the archive has it. */
export const ImportInstance = z
  .strictObject({
    name: Name.optional(),
    labels: Labels.default({}).describe("Added to the archive's own."),
    location: CreateInstance.shape.location,
    cpus: InstanceSpec.shape.cpus.optional(),
    memoryMib: RequestedMemory.optional(),
    ports: CreateInstance.shape.ports
      .unwrap()
      .optional()
      .describe("Published instead of the archive's. Of those, a host port that is taken here becomes a free one."),
    start: CreateInstance.shape.start,
  })
  .meta({ id: "ImportInstance", examples: [{ name: "web", ports: [{ hostPort: 8080, guestPort: 80 }] }] });
export type ImportInstance = z.infer<typeof ImportInstance>;
export type ImportInstanceInput = z.input<typeof ImportInstance>;

export const ListArchivesQuery = PageQuery;
/** An archive has no name that is its own, so its path takes the id alone. */
export const ArchiveParams = z.object({ archive: idSchema("archive") });

/** An export of an instance or a snapshot; `environment=false` leaves the instance's own variables out, which may hold secrets. */
export const ExportQuery = ChangeQuery.extend({
  environment: YesOrNo.optional().describe(
    "Whether its own variables, which may be secret, go with it; true when not given.",
  ),
});
