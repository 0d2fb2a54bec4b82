import { BerthError, isId, Pool } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { toTimestamp } from "./json.ts";
import { isPostgres } from "./operation-claims.ts";
import { newestFirst, type Page, type PageBounds, toPage } from "./page.ts";
import type { PoolMemberTable, PoolTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";
import { readShape, shapeKey, type TemplatePlace } from "./templates.ts";

/** A pool as it is kept: without what only its machines can tell. */
export type StoredPool = Omit<Pool, "ready" | "filling" | "machines" | "memoryBytes"> & {
  /** How often in a row a machine could not be made for it, and when last, in milliseconds since the epoch. */
  readonly failures: number;
  readonly failedAt: number | null;
};

export type NewPool = Pick<
  Pool,
  "id" | "name" | "project" | "image" | "location" | "nodeId" | "cpus" | "memoryMib" | "size"
>;

export type PoolChanges = Partial<Pick<StoredPool, "size" | "state" | "reason" | "failures">>;

const memberStates = ["making", "ready", "leaving"] as const;

/** One machine of a pool: `making` until it waits, `leaving` once nobody may claim it any more. */
export type PoolMember = TemplatePlace["shape"] & {
  readonly id: string;
  readonly poolId: string;
  readonly project: string;
  readonly location: string;
  readonly nodeId: string;
  readonly state: (typeof memberStates)[number];
  /** Its shape in short: `shapeKey`. */
  readonly shapeKey: string;
};

function toPool(row: Selectable<PoolTable>): StoredPool {
  return {
    id: row.id,
    name: row.name,
    project: row.project,
    image: row.image,
    location: row.location,
    nodeId: row.node_id,
    cpus: row.cpus,
    memoryMib: row.memory_mib,
    size: row.size,
    state: Pool.shape.state.parse(row.state),
    uses: row.uses,
    reason: row.reason,
    failures: row.failures,
    failedAt: row.failed_at,
    createdAt: toTimestamp(row.created_at),
  };
}

function toMember(row: Selectable<PoolMemberTable>): PoolMember {
  const state = memberStates.find((one) => one === row.state);
  if (!state) throw new Error(`the store's pool_member.state is not as this version writes it: ${row.state}`);
  return {
    id: row.id,
    poolId: row.pool_id,
    project: row.project,
    location: row.location,
    nodeId: row.node_id,
    state,
    shapeKey: row.shape_key,
    ...readShape(row.shape, "pool_member.shape"),
  };
}

/** Adds a pool. Rejects with BerthError `name_taken`. */
export async function insertPool(tx: Transaction, pool: NewPool): Promise<StoredPool> {
  const now = sql<number>`berth_now()`;
  const row = await tx
    .insertInto("pool")
    .values({
      id: pool.id,
      project: pool.project,
      name: pool.name,
      image: pool.image,
      location: pool.location,
      node_id: pool.nodeId,
      cpus: pool.cpus,
      memory_mib: pool.memoryMib,
      size: pool.size,
      uses: 0,
      state: "active",
      reason: "",
      failures: 0,
      failed_at: null,
      created_at: now,
      updated_at: now,
    })
    .onConflict((conflict) => conflict.columns(["project", "name"]).doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new BerthError("name_taken", `There is already a pool named ${pool.name}.`);
  return toPool(row);
}

/** The pool of a project with this id or name; undefined when there is none. */
export async function findPool(queries: Queries, project: string, idOrName: string): Promise<StoredPool | undefined> {
  const row = await queries
    .selectFrom("pool")
    .selectAll()
    .where("project", "=", project)
    .where(isId(idOrName) ? "id" : "name", "=", idOrName)
    .executeTakeFirst();
  return row && toPool(row);
}

/** The pool with this id, whatever its project. */
export async function readPool(queries: Queries, id: string): Promise<StoredPool | undefined> {
  const row = await queries.selectFrom("pool").selectAll().where("id", "=", id).executeTakeFirst();
  return row && toPool(row);
}

/** A page of a project's pools, newest first. */
export async function listPools(
  queries: Queries,
  options: PageBounds & { readonly project: string },
): Promise<Page<StoredPool>> {
  const query = queries.selectFrom("pool").selectAll().where("project", "=", options.project);
  return toPage(await newestFirst(query, options).execute(), options.limit, (row) => [row.created_at, row.id], toPool);
}

/** All pools of a node. */
export async function listNodePools(queries: Queries, nodeId: string): Promise<StoredPool[]> {
  const rows = await queries
    .selectFrom("pool")
    .selectAll()
    .where("node_id", "=", nodeId)
    .orderBy("created_at")
    .execute();
  return rows.map(toPool);
}

/** Changes a pool. A rise of `failures` notes the time. Rejects with BerthError `not_found`. */
export async function updatePool(tx: Transaction, id: string, changes: PoolChanges): Promise<StoredPool> {
  const { size, state, reason, failures } = changes;
  const row = await tx
    .updateTable("pool")
    .set({
      ...(size === undefined ? {} : { size }),
      ...(state === undefined ? {} : { state }),
      ...(reason === undefined ? {} : { reason }),
      ...(failures === undefined ? {} : { failures, failed_at: failures === 0 ? null : sql<number>`berth_now()` }),
      updated_at: sql<number>`berth_now()`,
    })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new BerthError("not_found", `There is no pool ${id}.`);
  return toPool(row);
}

/** Forgets a pool that has no members left; nothing happens when it is already gone. */
export async function deletePool(tx: Transaction, id: string): Promise<void> {
  await tx.deleteFrom("pool").where("id", "=", id).execute();
}

/** Adds a member that is about to be made. */
export async function insertPoolMember(
  tx: Transaction,
  member: TemplatePlace & Pick<PoolMember, "id" | "poolId" | "nodeId">,
): Promise<void> {
  await tx
    .insertInto("pool_member")
    .values({
      id: member.id,
      pool_id: member.poolId,
      project: member.project,
      location: member.location,
      node_id: member.nodeId,
      shape_key: shapeKey(member.shape),
      shape: JSON.stringify(member.shape),
      state: "making",
      created_at: sql<number>`berth_now()`,
    })
    .execute();
}

/** The member with this id; undefined when there is none. */
export async function readPoolMember(queries: Queries, id: string): Promise<PoolMember | undefined> {
  const row = await queries.selectFrom("pool_member").selectAll().where("id", "=", id).executeTakeFirst();
  return row && toMember(row);
}

/** The members of a pool, oldest first. */
export async function listPoolMembers(queries: Queries, poolId: string): Promise<PoolMember[]> {
  const rows = await queries
    .selectFrom("pool_member")
    .selectAll()
    .where("pool_id", "=", poolId)
    .orderBy("created_at")
    .orderBy("id")
    .execute();
  return rows.map(toMember);
}

/** Moves a member from one state to another; false when it is not, or no longer, in the first. */
export async function movePoolMember(
  tx: Transaction,
  id: string,
  from: PoolMember["state"],
  to: PoolMember["state"],
): Promise<boolean> {
  const rows = await tx
    .updateTable("pool_member")
    .set({ state: to })
    .where("id", "=", id)
    .where("state", "=", from)
    .returning("id")
    .execute();
  return rows.length > 0;
}

/** Forgets a member; nothing happens when it is already gone. */
export async function deletePoolMember(tx: Transaction, id: string): Promise<void> {
  await tx.deleteFrom("pool_member").where("id", "=", id).execute();
}

/**
 * Takes the machine that has waited for longest among those of a place out of its pool, for whoever asks in this transaction; undefined when none waits. No two get
 * the same one.
 */
export async function claimPoolMember(
  tx: Transaction,
  place: TemplatePlace,
): Promise<{ readonly id: string; readonly pool: StoredPool } | undefined> {
  const oldest = tx
    .selectFrom("pool_member")
    .select("id")
    .where("project", "=", place.project)
    .where("location", "=", place.location)
    .where("shape_key", "=", shapeKey(place.shape))
    .where("state", "=", "ready")
    .orderBy("created_at")
    .orderBy("id")
    .limit(1)
    .$if(isPostgres(tx), (query) => query.forUpdate().skipLocked());
  const taken = await tx
    .deleteFrom("pool_member")
    .where("id", "=", oldest)
    .returning(["id", "pool_id"])
    .executeTakeFirst();
  if (!taken) return undefined;
  const row = await tx
    .updateTable("pool")
    .set((eb) => ({ uses: eb("uses", "+", 1) }))
    .where("id", "=", taken.pool_id)
    .returningAll()
    .executeTakeFirstOrThrow();
  return { id: taken.id, pool: toPool(row) };
}

/** Whether any machine waits in a pool of a project and location. */
export async function doesAnyWait(queries: Queries, project: string, location: string): Promise<boolean> {
  const row = await queries
    .selectFrom("pool_member")
    .select("id")
    .where("project", "=", project)
    .where("location", "=", location)
    .where("state", "=", "ready")
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** A pool in which a machine of a place waits; undefined when none does. Claims nothing. */
export async function findPoolWith(queries: Queries, place: TemplatePlace): Promise<string | undefined> {
  const row = await queries
    .selectFrom("pool_member as member")
    .innerJoin("pool", "pool.id", "member.pool_id")
    .select("pool.name")
    .where("member.project", "=", place.project)
    .where("member.location", "=", place.location)
    .where("member.shape_key", "=", shapeKey(place.shape))
    .where("member.state", "=", "ready")
    .limit(1)
    .executeTakeFirst();
  return row?.name;
}
