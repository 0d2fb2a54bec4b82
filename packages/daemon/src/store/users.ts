import { BerthError, isId, Role, type User } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { isForeignKeyViolation } from "./errors.ts";
import { toTimestamp } from "./json.ts";
import { newestFirst, type Page, type PageBounds, toPage } from "./page.ts";
import { wakeAfter } from "./pending.ts";
import type { MemberTable, PersonTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";
import { tokenTopic } from "./tokens.ts";

function toUser(row: Selectable<PersonTable>, roles: ReadonlyMap<string, Role>): User {
  return {
    id: row.id,
    name: row.name,
    admin: row.admin === 1,
    roles: Object.fromEntries(roles),
    hasPassword: row.password !== null,
    createdAt: toTimestamp(row.created_at),
    lastLoginAt: row.last_login_at === null ? null : toTimestamp(row.last_login_at),
  };
}

/** Adds a user. `password` is its hash. Rejects with BerthError `name_taken`, and `not_found` for a role in a project that is not there. */
export async function insertUser(
  tx: Transaction,
  user: Pick<User, "id" | "name" | "admin"> & {
    readonly roles: Readonly<Record<string, Role>>;
    readonly password: string | null;
  },
): Promise<User> {
  const { id, name, admin, roles, password } = user;
  const row = await tx
    .insertInto("person")
    .values({
      id,
      name,
      admin: admin ? 1 : 0,
      password,
      created_at: sql<number>`berth_now()`,
      last_login_at: null,
    })
    .onConflict((conflict) => conflict.column("name").doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new BerthError("name_taken", `There is already a user named ${name}.`);
  await setRoles(tx, id, roles);
  return toUser(row, new Map(Object.entries(roles)));
}

/** Notes that a user has logged in just now. */
export async function noteLogin(tx: Transaction, id: string): Promise<void> {
  await tx.updateTable("person").set({ last_login_at: sql<number>`berth_now()` }).where("id", "=", id).execute();
}

/** Gives a user roles, by project; null takes one away. Rejects with BerthError `not_found` for a project that is not there. */
async function setRoles(tx: Transaction, userId: string, roles: Readonly<Record<string, Role | null>>): Promise<void> {
  for (const [project, role] of Object.entries(roles)) {
    if (role === null) {
      await tx.deleteFrom("member").where("user_id", "=", userId).where("project", "=", project).execute();
      continue;
    }
    try {
      await tx
        .insertInto("member")
        .values({ user_id: userId, project, role })
        .onConflict((conflict) => conflict.columns(["user_id", "project"]).doUpdateSet({ role }))
        .execute();
    } catch (error) {
      if (isForeignKeyViolation(error)) throw new BerthError("not_found", `There is no project ${project}.`);
      throw error;
    }
  }
}

/** Changes what a user may do. Rejects with BerthError `not_found` for a project that is not there. */
export async function updateUser(
  tx: Transaction,
  id: string,
  changes: { readonly admin?: boolean | undefined; readonly roles?: Readonly<Record<string, Role | null>> | undefined },
): Promise<void> {
  const { admin, roles } = changes;
  if (admin !== undefined) {
    await tx
      .updateTable("person")
      .set({ admin: admin ? 1 : 0 })
      .where("id", "=", id)
      .execute();
  }
  await setRoles(tx, id, roles ?? {});
  wakeAfter(tx, tokenTopic);
}

/** The user with this id or name; undefined when there is none. */
export async function findUser(queries: Queries, idOrName: string): Promise<User | undefined> {
  const row = await queries
    .selectFrom("person")
    .selectAll()
    .where(isId(idOrName) ? "id" : "name", "=", idOrName)
    .executeTakeFirst();
  return row && toUser(row, await readRoles(queries, row.id));
}

/** What a user may do, by project. */
async function readRoles(queries: Queries, userId: string): Promise<Map<string, Role>> {
  const rows = await queries
    .selectFrom("member")
    .select(["project", "role"])
    .where("user_id", "=", userId)
    .orderBy("project")
    .execute();
  return toRoles(rows);
}

function toRoles(rows: readonly Pick<Selectable<MemberTable>, "project" | "role">[]): Map<string, Role> {
  return new Map(rows.map(({ project, role }) => [project, Role.parse(role)]));
}

/** A page of users, newest first. */
export async function listUsers(queries: Queries, options: PageBounds): Promise<Page<User>> {
  const query = queries.selectFrom("person").selectAll();
  const rows = await newestFirst(query, options).execute();
  const ids = rows.map(({ id }) => id);
  const members =
    ids.length === 0
      ? []
      : await queries.selectFrom("member").selectAll().where("user_id", "in", ids).orderBy("project").execute();
  const rolesOf = Map.groupBy(members, ({ user_id }) => user_id);
  return toPage(
    rows,
    options.limit,
    (row) => [row.created_at, row.id],
    (row) => toUser(row, toRoles(rolesOf.get(row.id) ?? [])),
  );
}

/** What is kept of a user's password; undefined for none of this name, null for one who has none yet. */
export async function readPassword(
  queries: Queries,
  name: string,
): Promise<{ readonly id: string; readonly password: string | null } | undefined> {
  return queries.selectFrom("person").select(["id", "password"]).where("name", "=", name).executeTakeFirst();
}

/** Sets what is kept of a user's password. All his codes are void, and his sessions end, but for the one kept. */
export async function setPassword(
  tx: Transaction,
  id: string,
  password: string,
  keptSession: string | null = null,
): Promise<void> {
  await tx.updateTable("person").set({ password }).where("id", "=", id).execute();
  await tx.deleteFrom("password_code").where("user_id", "=", id).execute();
  let others = tx.deleteFrom("session").where("user_id", "=", id);
  if (keptSession !== null) others = others.where("hash", "<>", keptSession);
  await others.execute();
  await tx.deleteFrom("login_grant").where("user_id", "=", id).execute();
  wakeAfter(tx, tokenTopic);
}

/** Removes a user with his sessions; nothing happens when he is gone. */
export async function deleteUser(tx: Transaction, id: string): Promise<void> {
  await tx.deleteFrom("person").where("id", "=", id).execute();
  wakeAfter(tx, tokenTopic);
}

/** Keeps a code that sets a password, in place of earlier ones; `hash` is its SHA-256 in hex. Resolves with when it expires. */
export async function insertPasswordCode(
  tx: Transaction,
  userId: string,
  hash: string,
  lifetimeMs: number,
): Promise<number> {
  await tx.deleteFrom("password_code").where("user_id", "=", userId).execute();
  const { expires_at } = await tx
    .insertInto("password_code")
    .values({ hash, user_id: userId, expires_at: sql<number>`berth_now() + ${lifetimeMs}` })
    .returning("expires_at")
    .executeTakeFirstOrThrow();
  return expires_at;
}

/** Whose password a code sets; undefined when it sets none any more. */
export async function findPasswordCode(
  queries: Queries,
  hash: string,
): Promise<{ readonly id: string; readonly name: string } | undefined> {
  return queries
    .selectFrom("password_code as code")
    .innerJoin("person", "person.id", "code.user_id")
    .select(["person.id", "person.name"])
    .where("code.hash", "=", hash)
    .where("code.expires_at", ">", sql<number>`berth_now()`)
    .executeTakeFirst();
}

/** Takes a code away. Resolves with whether it was there: of two who use it at once, one has it. */
export async function takePasswordCode(tx: Transaction, hash: string): Promise<boolean> {
  const taken = await tx.deleteFrom("password_code").where("hash", "=", hash).returning("hash").executeTakeFirst();
  return taken !== undefined;
}
