import { Role } from "@berth/api";
import { sql } from "kysely";
import { pruneAuthorizations } from "./authorizations.ts";
import { isNoted } from "./last-use.ts";
import { wakeAfter } from "./pending.ts";
import { prepare } from "./prepared.ts";
import type { Queries, Transaction } from "./store.ts";
import { tokenTopic } from "./tokens.ts";
import { noteLogin } from "./users.ts";

/** Somebody who has logged in. Times are milliseconds since the epoch. */
export interface Session {
  /** SHA-256 of the cookie's secret, in hex. */
  readonly hash: string;
  readonly userId: string;
  readonly userName: string;
  readonly admin: boolean;
  readonly roles: ReadonlyMap<string, Role>;
  readonly usedAt: number;
  readonly expiresAt: number;
}

/** How long a session lasts, and how long it lasts unused, in milliseconds: a week and a day. */
const lifetimeMs = 7 * 24 * 3_600_000;
const idleMs = 24 * 3_600_000;

/** Begins a session of a user. Resolves with when it ends. */
export async function insertSession(tx: Transaction, userId: string, hash: string): Promise<number> {
  const now = sql<number>`berth_now()`;
  const { expires_at } = await tx
    .insertInto("session")
    .values({ hash, user_id: userId, created_at: now, used_at: now, expires_at: sql`berth_now() + ${lifetimeMs}` })
    .returning("expires_at")
    .executeTakeFirstOrThrow();
  await noteLogin(tx, userId);
  return expires_at;
}

const selectSession = prepare((queries, hash: string) =>
  queries
    .selectFrom("session")
    .innerJoin("person", "person.id", "session.user_id")
    .leftJoin("member", "member.user_id", "person.id")
    .select(["session.hash", "session.user_id", "session.used_at", "session.expires_at"])
    .select(["person.name", "person.admin", "member.project", "member.role"])
    .where("session.hash", "=", hash)
    .where("session.expires_at", ">", sql<number>`berth_now()`)
    .where("session.used_at", ">", sql<number>`berth_now() - ${idleMs}`)
    .orderBy("member.project"),
);

/** The session whose secret has this SHA-256, unless it has ended. */
export async function findSession(queries: Queries, hash: string): Promise<Session | undefined> {
  const rows = await selectSession(queries, hash);
  const [row] = rows;
  if (!row) return undefined;
  const roles = rows.flatMap(({ project, role }): [string, Role][] =>
    project === null || role === null ? [] : [[project, Role.parse(role)]],
  );
  return {
    hash: row.hash,
    userId: row.user_id,
    userName: row.name,
    admin: row.admin === 1,
    roles: new Map(roles),
    usedAt: row.used_at,
    expiresAt: row.expires_at,
  };
}

/** Notes that a session was used just now, unless that was noted a moment ago. */
export async function touchSession(
  queries: Queries,
  { hash, usedAt }: Pick<Session, "hash" | "usedAt">,
): Promise<void> {
  if (isNoted(usedAt)) return;
  await queries.updateTable("session").set({ used_at: sql<number>`berth_now()` }).where("hash", "=", hash).execute();
}

/** Ends a session; nothing happens when it has ended. */
export async function deleteSession(tx: Transaction, hash: string): Promise<void> {
  await tx.deleteFrom("session").where("hash", "=", hash).execute();
  wakeAfter(tx, tokenTopic);
}

/** Forgets sessions, grants, keys and codes that have ended, and failures that are long past. */
export async function pruneLogins(queries: Queries): Promise<void> {
  const now = sql<number>`berth_now()`;
  await queries
    .deleteFrom("session")
    .where((eb) => eb.or([eb("expires_at", "<=", now), eb("used_at", "<=", sql<number>`berth_now() - ${idleMs}`)]))
    .execute();
  await queries.deleteFrom("login_grant").where("expires_at", "<=", now).execute();
  await pruneAuthorizations(queries);
  await queries.deleteFrom("signing_key").where("expires_at", "<=", now).execute();
  await queries.deleteFrom("password_code").where("expires_at", "<=", now).execute();
  await queries.deleteFrom("failed_login").where("failed_at", "<=", sql<number>`berth_now() - ${idleMs}`).execute();
}

/** How often in a row somebody failed to log in to an account from an address, and how long ago the last time was, in milliseconds. */
export async function readFailures(
  tx: Transaction,
  account: string,
  address: string,
): Promise<{ readonly failures: number; readonly agoMs: number }> {
  const row = await tx
    .selectFrom("failed_login")
    .select(["failures", sql<number>`berth_now() - failed_at`.as("ago")])
    .where("account", "=", account)
    .where("address", "=", address)
    .executeTakeFirst();
  return { failures: row?.failures ?? 0, agoMs: row?.ago ?? 0 };
}

/** Counts a failure. */
export async function countFailure(tx: Transaction, account: string, address: string): Promise<void> {
  const now = sql<number>`berth_now()`;
  await tx
    .insertInto("failed_login")
    .values({ account, address, failures: 1, failed_at: now })
    .onConflict((conflict) =>
      conflict
        .columns(["account", "address"])
        .doUpdateSet({ failures: sql<number>`failed_login.failures + 1`, failed_at: now }),
    )
    .execute();
}

/** Forgets failures. */
export async function clearFailures(tx: Transaction, account: string, address: string): Promise<void> {
  await tx.deleteFrom("failed_login").where("account", "=", account).where("address", "=", address).execute();
}
