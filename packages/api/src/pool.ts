import { z } from "zod";
import { IdOrName, idSchema, Name, Timestamp } from "./common.ts";
import { InstanceSpec, RequestedMemory } from "./instance.ts";

const size = z.number().int().min(0).max(1000);

/** Machines that were cloned and tried before anybody asked for them, and stand still until an instance claims one. */
export const Pool = z
  .object({
    id: idSchema("pool"),
    name: Name,
    project: Name,
    image: z.string().describe("The reference or id of the image its machines are made from: what that names now."),
    location: z.string(),
    nodeId: idSchema("node"),
    cpus: InstanceSpec.shape.cpus,
    memoryMib: InstanceSpec.shape.memoryMib,
    size: size.describe("How many machines are to wait in it."),
    state: z.enum(["active", "deleting"]),
    ready: z.number().int().describe("How many machines wait in it now."),
    filling: z.number().int().describe("How many are being made for it."),
    machines: z
      .array(z.object({ id: idSchema("instance"), state: z.enum(["making", "ready", "leaving"]) }))
      .describe("Its machines, oldest first, each with the id of the instance that will claim it."),
    uses: z.number().int().describe("How many instances were made from it."),
    reason: z.string().describe("Why it is not full, in words; empty when it is, or is being filled."),
    memoryBytes: z
      .number()
      .int()
      .nullable()
      .describe(
        "What its waiting machines take of the node's memory, measured: what several share counts for each in part. Null where that cannot be told.",
      ),
    createdAt: Timestamp,
  })
  .meta({ id: "Pool" });
export type Pool = z.infer<typeof Pool>;

/** A request for a pool. Its machines fit instances of this image, CPUs and memory; everything else is the instance's own. */
export const CreatePool = z
  .strictObject({
    name: Name,
    image: z.string().min(1).max(512),
    size,
    cpus: InstanceSpec.shape.cpus.default(1),
    memoryMib: RequestedMemory.default(512),
    location: z.string().max(128).optional(),
  })
  .meta({ id: "CreatePool", examples: [{ name: "web", image: "nginx:1.27", size: 5 }] });
export type CreatePool = z.infer<typeof CreatePool>;

/** What of a pool can be changed. */
export const ChangePool = z.strictObject({ size }).meta({ id: "ChangePool", examples: [{ size: 10 }] });
export type ChangePool = z.infer<typeof ChangePool>;

export const PoolParams = z.object({ pool: IdOrName });
