import { BerthError, type Project } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { toTimestamp } from "./json.ts";
import { isPostgres } from "./operation-claims.ts";
import { newestFirst, type Page, type PageBounds, toPage } from "./page.ts";
import type { ProjectTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";

/** The project that a request is for which names none and whose caller has none of his own. It is there from the beginning. */
export const defaultProject = "default";

function toProject(row: Selectable<ProjectTable>): Project {
  return { id: row.id, name: row.name, createdAt: toTimestamp(row.created_at) };
}

/** Adds a project. Rejects with BerthError `name_taken`. */
export async function insertProject(tx: Transaction, { id, name }: Pick<Project, "id" | "name">): Promise<Project> {
  const row = await tx
    .insertInto("project")
    .values({ id, name, created_at: sql<number>`berth_now()` })
    .onConflict((conflict) => conflict.column("name").doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new BerthError("name_taken", `There is already a project named ${name}.`);
  return toProject(row);
}

/** The project of this name; undefined when there is none. */
export async function findProject(queries: Queries, name: string): Promise<Project | undefined> {
  const row = await queries.selectFrom("project").selectAll().where("name", "=", name).executeTakeFirst();
  return row && toProject(row);
}

/** A page of projects, newest first; of these only, when names are given. */
export async function listProjects(
  queries: Queries,
  options: PageBounds & {
    readonly names: readonly string[] | undefined;
  },
): Promise<Page<Project>> {
  const { names, cursor, limit } = options;
  if (names?.length === 0) return { rows: [], nextCursor: null };
  let query = queries.selectFrom("project").selectAll();
  if (names) query = query.where("name", "in", names);
  return toPage(
    await newestFirst(query, { cursor, limit }).execute(),
    limit,
    (row) => [row.created_at, row.id],
    toProject,
  );
}

/** Waits for everybody who makes something in a project, and keeps others from it until the transaction ends. */
export async function lockProject(tx: Transaction, name: string): Promise<void> {
  if (isPostgres(tx)) await sql`select 1 from project where name = ${name} for update`.execute(tx);
}

const held = ["instance", "snapshot", "image", "archive", "template", "pool"] as const;

/** What a project holds, by kind of object, each with how many; kinds it has none of are left out. What was deleted but is still being removed counts. */
export async function countHeld(queries: Queries, project: string): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const table of [...held, "operation"] as const) {
    let query = queries
      .selectFrom(table)
      .select((eb) => eb.fn.countAll<number>().as("count"))
      .where("project", "=", project);
    if (table === "operation") query = query.where(sql.ref("ended_at"), "is", null);
    const count = Number((await query.executeTakeFirstOrThrow()).count);
    if (count > 0) counts.set(table, count);
  }
  return counts;
}

/** Removes a project that holds nothing, with the records of what was done in it; the events of it stay. */
export async function deleteProject(tx: Transaction, name: string): Promise<void> {
  await tx.deleteFrom("operation").where("project", "=", name).execute();
  await tx.deleteFrom("idempotency_key").where("project", "=", name).execute();
  await tx.deleteFrom("project").where("name", "=", name).execute();
}
