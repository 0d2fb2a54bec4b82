import { z } from "zod";
import { IdOrName, idSchema, Labels, Name, PageQuery, Timestamp } from "./common.ts";
import { CreateInstance, DiskSpec, InstanceSpec, PublishedPort, RequestedMemory, RestartPolicy } from "./instance.ts";

/** Whether a snapshot was found to be what it was when it was made. */
export const SnapshotVerification = z
  .object({
    verdict: z.enum(["unverified", "sound", "damaged"]),
    reason: z.string().describe("What is damaged, in words; empty otherwise."),
    at: Timestamp.nullable().describe("When it was verified; null when it never was."),
  })
  .meta({ id: "SnapshotVerification" });
export type SnapshotVerification = z.infer<typeof SnapshotVerification>;

/** A point in time of one instance, all its disks. It outlives its instance. */
export const Snapshot = z
  .object({
    id: idSchema("snapshot"),
    name: Name,
    project: Name,
    instanceId: idSchema("instance").describe("The instance it was made of, which may be gone."),
    instanceName: Name,
    automatic: z.boolean().describe("Whether its instance's schedule took it, and deletes it again in its time."),
    kind: z.enum(["disk", "memory"]).describe("Whether it has the machine's memory beside its disks."),
    consistency: z
      .enum(["stopped", "frozen", "memory", "crash"])
      .describe(
        "How its disks were at that moment: of a stopped machine; of a running one with its file systems frozen; those that its memory goes with; or as after a power cut.",
      ),
    state: z.enum(["creating", "ready"]),
    imageId: idSchema("image"),
    image: z.string().describe("The image's reference as the instance knew it."),
    location: z.string(),
    nodeId: idSchema("node"),
    spec: InstanceSpec.describe("What was asked of the instance then."),
    disks: z
      .array(z.object({ name: Name, sizeBytes: z.number().int().describe("As its guest sees it.") }))
      .describe("The root disk first."),
    memoryBytes: z.number().int().describe("Bytes on the node's disk that its memory takes; 0 when it has none."),
    ownBytes: z.number().int().describe("Bytes on the node's disk that would be free without it, its memory included."),
    sharedBytes: z
      .number()
      .int()
      .describe(
        "Bytes on the node's disk that it holds together with other snapshots or instances; the image's own are not counted.",
      ),
    verification: SnapshotVerification,
    operationId: idSchema("operation").nullable().describe("The unfinished operation that holds it, if any."),
    createdAt: Timestamp,
  })
  .meta({ id: "Snapshot" });
export type Snapshot = z.infer<typeof Snapshot>;

/** A request for a snapshot. */
export const CreateSnapshot = z
  .strictObject({
    instance: IdOrName,
    name: Name.optional().describe("Made from the instance's name and the time when not given."),
    memory: z
      .boolean()
      .default(false)
      .describe("Whether the memory of the running machine is kept, too: what is made from it goes on where it was."),
    crashConsistent: z
      .boolean()
      .default(false)
      .describe("Whether the disks may be as after a power cut when the guest cannot freeze its file systems."),
  })
  .meta({ id: "CreateSnapshot", examples: [{ instance: "web", name: "before-upgrade" }] });
export type CreateSnapshot = z.infer<typeof CreateSnapshot>;
export type CreateSnapshotInput = z.input<typeof CreateSnapshot>;

/** A request to put an instance back to a snapshot. */
export const RestoreSnapshot = z
  .strictObject({
    instance: IdOrName.optional().describe("Which instance; the one it was made of when not given."),
    force: z.boolean().default(false).describe("Whether a running one may be stopped for it."),
    discard: z
      .boolean()
      .default(false)
      .describe("Whether what is on its disks now goes. Otherwise that is kept as a snapshot first."),
    diskOnly: z
      .boolean()
      .default(false)
      .describe("Whether the memory of the snapshot is left alone: the instance boots, or stays off when it was."),
  })
  .meta({ id: "RestoreSnapshot", examples: [{ force: true }] });
export type RestoreSnapshot = z.infer<typeof RestoreSnapshot>;
export type RestoreSnapshotInput = z.input<typeof RestoreSnapshot>;

const { shape } = CreateInstance;

/** A request for a new instance from a snapshot. What is not given is as it was in the snapshot; its published ports get free host ports. */
export const LaunchSnapshot = z
  .strictObject({
    name: shape.name,
    labels: Labels.default({}),
    cpus: InstanceSpec.shape.cpus.optional(),
    memoryMib: RequestedMemory.optional(),
    diskMib: DiskSpec.shape.sizeMib.optional().describe("The root disk's size; never less than in the snapshot."),
    ports: z.array(PublishedPort.strict()).max(256).optional(),
    env: InstanceSpec.shape.env.default({}).describe("Variables set beside those in the snapshot, or instead of them."),
    entrypoint: shape.entrypoint,
    command: shape.command,
    tty: z.boolean().optional(),
    stopTimeoutMs: InstanceSpec.shape.stopTimeoutMs.optional(),
    restart: RestartPolicy.optional(),
    snapshots: InstanceSpec.shape.snapshots.describe(
      "Its own schedule of snapshots; that of the first instance is not taken over.",
    ),
    start: shape.start,
    cold: z
      .boolean()
      .default(false)
      .describe("Whether it boots although the snapshot has memory that it could go on from."),
  })
  .meta({ id: "LaunchSnapshot", examples: [{ name: "web2", ports: [{ hostPort: 8081, guestPort: 80 }] }] });
export type LaunchSnapshot = z.infer<typeof LaunchSnapshot>;
export type LaunchSnapshotInput = z.input<typeof LaunchSnapshot>;

/** A request to make an image of a snapshot's root disk. */
export const PromoteSnapshot = z
  .strictObject({ reference: z.string().min(1).max(512).describe("What the image shall be called.") })
  .meta({ id: "PromoteSnapshot", examples: [{ reference: "web:golden" }] });
export type PromoteSnapshot = z.infer<typeof PromoteSnapshot>;

/** The query of the snapshot list. */
export const ListSnapshotsQuery = PageQuery.extend({
  instance: IdOrName.optional().describe("Only those of this instance: its name, or the id of one that may be gone."),
});

/** The path of one snapshot. */
export const SnapshotParams = z.object({ snapshot: IdOrName });
