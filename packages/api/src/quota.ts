import { z } from "zod";

/** What a quota limits. CPUs, memory and disks are those asked for, whether or not the instance runs; a pool's machines count as instances do. */
export const quotaNames = ["instances", "cpus", "memoryMib", "diskMib", "ports", "images"] as const;
export type QuotaName = (typeof quotaNames)[number];

const limit = z.number().int().min(0).max(1_000_000_000).nullable();

/** The most that a project may have of each; null for as much as there is. */
export const Quota = z
  .object({ instances: limit, cpus: limit, memoryMib: limit, diskMib: limit, ports: limit, images: limit })
  .meta({ id: "Quota" });
export type Quota = z.infer<typeof Quota>;

const amount = z.number().int();

/** A project's limits, and what it has. */
export const ProjectQuota = z
  .object({
    limits: Quota,
    used: z.object({
      instances: amount,
      cpus: amount,
      memoryMib: amount,
      diskMib: amount,
      ports: amount,
      images: amount,
    }),
  })
  .meta({ id: "ProjectQuota" });
export type ProjectQuota = z.infer<typeof ProjectQuota>;

/** New limits; what is left out stays, and null lifts one. */
export const ChangeQuota = z
  .strictObject(Quota.partial().shape)
  .meta({ id: "ChangeQuota", examples: [{ instances: 10, memoryMib: 16_384, images: null }] });
export type ChangeQuota = z.infer<typeof ChangeQuota>;
