import { sql } from "kysely";
import { wakeAfter } from "./pending.ts";
import type { Queries, Transaction } from "./store.ts";
import { readScopes, tokenTopic } from "./tokens.ts";
import { noteLogin } from "./users.ts";

/** A user's login by a program, from which all its refresh tokens descend. */
export interface Grant {
  readonly id: string;
  readonly userId: string;
  readonly scopes: readonly string[] | null;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** How long a grant lasts, in milliseconds: 30 days, after which one logs in again. */
const lifetimeMs = 30 * 24 * 3_600_000;

/** Begins a grant with its first refresh token, whose SHA-256 is `hash`. */
export async function insertGrant(
  tx: Transaction,
  grant: Pick<Grant, "id" | "userId" | "scopes"> & { readonly hash: string },
): Promise<void> {
  const { id, userId, scopes, hash } = grant;
  const now = sql<number>`berth_now()`;
  const expires_at = sql<number>`berth_now() + ${lifetimeMs}`;
  const values = { id, user_id: userId, scopes: scopes && JSON.stringify(scopes), created_at: now, expires_at };
  await tx.insertInto("login_grant").values(values).execute();
  await tx.insertInto("refresh_token").values({ hash, grant_id: id, used_at: null }).execute();
  await noteLogin(tx, userId);
}

/** The grant with this id, unless it has ended. */
export async function findGrant(queries: Queries, id: string): Promise<Grant | undefined> {
  const row = await queries
    .selectFrom("login_grant")
    .select(["id", "user_id", "scopes", "expires_at"])
    .where("id", "=", id)
    .where("expires_at", ">", sql<number>`berth_now()`)
    .executeTakeFirst();
  return (
    row && {
      id: row.id,
      userId: row.user_id,
      scopes: readScopes(row.scopes, "login_grant.scopes"),
      expiresAt: row.expires_at,
    }
  );
}

/** What became of a refresh token that was shown. */
export type Exchange =
  | { readonly kind: "renewed"; readonly grant: Grant }
  /** It had been used before: somebody else has it, so the grant is ended. */
  | { readonly kind: "reused"; readonly userId: string }
  | { readonly kind: "unknown" };

/** Takes a refresh token and puts another in its place, once. Of two who show the same, the second ends the grant. */
export async function exchangeRefreshToken(tx: Transaction, shown: string, next: string): Promise<Exchange> {
  const taken = await tx
    .updateTable("refresh_token")
    .set({ used_at: sql<number>`berth_now()` })
    .where("hash", "=", shown)
    .where("used_at", "is", null)
    .returning("grant_id")
    .executeTakeFirst();
  if (!taken) {
    const used = await tx
      .selectFrom("refresh_token")
      .innerJoin("login_grant", "login_grant.id", "refresh_token.grant_id")
      .select(["login_grant.id", "login_grant.user_id"])
      .where("refresh_token.hash", "=", shown)
      .executeTakeFirst();
    if (!used) return { kind: "unknown" };
    await deleteGrant(tx, used.id);
    return { kind: "reused", userId: used.user_id };
  }
  const grant = await findGrant(tx, taken.grant_id);
  if (!grant) return { kind: "unknown" };
  await tx.insertInto("refresh_token").values({ hash: next, grant_id: grant.id, used_at: null }).execute();
  return { kind: "renewed", grant };
}

/** Ends the grant of a refresh token; nothing happens when there is none. */
export async function deleteGrantOf(tx: Transaction, hash: string): Promise<void> {
  const row = await tx.selectFrom("refresh_token").select("grant_id").where("hash", "=", hash).executeTakeFirst();
  if (row) await deleteGrant(tx, row.grant_id);
}

/** Ends a grant; nothing happens when it has ended. */
export async function deleteGrant(tx: Transaction, id: string): Promise<void> {
  await tx.deleteFrom("login_grant").where("id", "=", id).execute();
  wakeAfter(tx, tokenTopic);
}
