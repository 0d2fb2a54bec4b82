import { z } from "zod";
import { IdOrName, idSchema, Name, Timestamp } from "./common.ts";

/** What a driver can do at its location; an ability it lacks is answered `unsupported_by_driver` at request time. */
export const DriverAbilities = z
  .object({
    boots: z.array(z.enum(["rootfs", "disk", "iso", "reference"])),
    console: z.boolean(),
    channel: z.boolean(),
    snapshots: z.boolean(),
    templates: z.boolean(),
    hotplug: z.boolean(),
    networks: z.array(z.enum(["user", "bridged"])),
  })
  .meta({ id: "DriverAbilities" });
export type DriverAbilities = z.infer<typeof DriverAbilities>;

/** One thing a node was checked for; `hint` says what to do when it is not ok. */
export const Check = z
  .object({ name: z.string(), ok: z.boolean(), detail: z.string(), hint: z.string() })
  .meta({ id: "Check" });
export type Check = z.infer<typeof Check>;

/** A machine running berthd. */
export const Node = z
  .object({
    id: idSchema("node"),
    name: Name,
    version: z.string(),
    architecture: z.string(),
    kernel: z.string(),
    cpus: z.number().int(),
    memoryMib: z.number().int(),
    diskFreeMib: z.number().int(),
    /** How guests are run, found by booting one; `reason` says why. */
    accelerator: z.object({ kind: z.enum(["kvm", "tcg", "none"]), reason: z.string(), probedAt: Timestamp }).nullable(),
    locations: z.array(
      z.object({
        name: z.string(),
        driver: z.string(),
        healthy: z.boolean(),
        reason: z.string(),
        abilities: DriverAbilities,
      }),
    ),
    checks: z.array(Check),
    startedAt: Timestamp,
  })
  .meta({ id: "Node" });
export type Node = z.infer<typeof Node>;

export const NodeParams = z.object({ node: IdOrName });
