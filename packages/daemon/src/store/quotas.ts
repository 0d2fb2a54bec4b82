import { BerthError, type ChangeQuota, InstanceSpec, type ProjectQuota, type Quota, type QuotaName } from "@berth/api";
import { sql } from "kysely";
import { changedLimits } from "../core/changed-limits.ts";
import { readJson } from "./json.ts";
import { lockResources } from "./operation-claims.ts";
import type { Queries, Transaction } from "./store.ts";

const unlimited: Quota = { instances: null, cpus: null, memoryMib: null, diskMib: null, ports: null, images: null };

/** What makes instances larger. */
export const instanceQuotas = ["instances", "cpus", "memoryMib", "diskMib", "ports"] as const;

/** A project's limits. */
async function readLimits(queries: Queries, project: string): Promise<Quota> {
  const row = await queries.selectFrom("quota").selectAll().where("project", "=", project).executeTakeFirst();
  if (!row) return unlimited;
  const { instances, cpus, ports, images } = row;
  return { instances, cpus, memoryMib: row.memory_mib, diskMib: row.disk_mib, ports, images };
}

/** Sets a project's limits; what it has beyond them stays. */
export async function writeLimits(tx: Transaction, project: string, changes: ChangeQuota): Promise<void> {
  const { instances, cpus, memoryMib, diskMib, ports, images } = changedLimits(await readLimits(tx, project), changes);
  const columns = { instances, cpus, memory_mib: memoryMib, disk_mib: diskMib, ports, images };
  await tx
    .insertInto("quota")
    .values({ project, ...columns })
    .onConflict((conflict) => conflict.column("project").doUpdateSet(columns))
    .execute();
}

const Counted = InstanceSpec.pick({ cpus: true, memoryMib: true, disks: true, ports: true });

/** What a project has. Counted each time, so that it can never be wrong. */
async function readUse(queries: Queries, project: string): Promise<ProjectQuota["used"]> {
  const used = { instances: 0, cpus: 0, memoryMib: 0, diskMib: 0, ports: 0, images: 0 };
  const instances = await queries.selectFrom("instance").select("spec").where("project", "=", project).execute();
  for (const { spec } of instances) {
    const { cpus, memoryMib, disks, ports } = readJson(Counted, spec, "instance.spec");
    used.instances += 1;
    used.cpus += cpus;
    used.memoryMib += memoryMib;
    used.diskMib += disks.reduce((sum, { sizeMib }) => sum + sizeMib, 0);
    used.ports += ports.length;
  }
  const pools = await queries
    .selectFrom("pool")
    .select(["size", "cpus", "memory_mib"])
    .where("project", "=", project)
    .where("state", "=", "active")
    .execute();
  for (const { size, cpus, memory_mib } of pools) {
    used.instances += size;
    used.cpus += size * cpus;
    used.memoryMib += size * memory_mib;
  }
  const images = await queries
    .selectFrom("image")
    .select(sql<number>`count(*)`.as("count"))
    .where("project", "=", project)
    .executeTakeFirstOrThrow();
  used.images = Number(images.count);
  return used;
}

/** A project's limits, and what it has. */
export async function readQuota(queries: Queries, project: string): Promise<ProjectQuota> {
  return { limits: await readLimits(queries, project), used: await readUse(queries, project) };
}

/** How people call what is limited. */
const words: Readonly<Record<QuotaName, string>> = {
  instances: "instances",
  cpus: "CPUs",
  memoryMib: "MiB of memory",
  diskMib: "MiB of disks",
  ports: "published ports",
  images: "images",
};

/**
 * Holds a project to its limits after the transaction made more of what is named: what is written so far counts, and other transactions that make more in the project wait
 * for this one to end, so that none oversteps together. Comes last, when everything is written. Rejects with BerthError `quota_exceeded`.
 */
export async function holdToQuota(tx: Transaction, project: string, grown: readonly QuotaName[]): Promise<void> {
  const limits = await readLimits(tx, project);
  const limited = grown.filter((name) => limits[name] !== null);
  if (limited.length === 0) return;
  await lockResources(tx, [`quota:${project}`]);
  const used = await readUse(tx, project);
  for (const name of limited) {
    const limit = limits[name];
    if (limit === null || used[name] <= limit) continue;
    throw new BerthError(
      "quota_exceeded",
      `The project ${project} may have ${limit} ${words[name]}; with this it would have ${used[name]}.`,
    );
  }
}
