import { BerthError } from "@berth/api";
import { sql } from "kysely";
import { deleteGrant } from "./grants.ts";
import type { Queries, Transaction } from "./store.ts";
import { readScopes } from "./tokens.ts";

/** What a grant is made of, once a program has shown the code for it. */
export interface Authorized {
  readonly userId: string;
  readonly scopes: readonly string[] | null;
}

/** How long an authorization code and a device code are good for, in milliseconds (RFC 6749, section 4.1.2: ten minutes at most). */
const codeMs = 60_000;
export const deviceCodeMs = 10 * 60_000;
/** How often a device may ask, in milliseconds. */
export const deviceIntervalMs = 2000;

/** Anybody may begin a device's login; so many wait at once. */
const maxDevices = 1000;

const now = sql<number>`berth_now()`;
const after = (ms: number) => sql<number>`berth_now() + ${ms}`;

/** Keeps what a user allowed a program that shows the code of this hash, sent to this address, with what the challenge was made of (RFC 7636). */
export async function insertCode(
  tx: Transaction,
  code: Authorized & { readonly hash: string; readonly codeChallenge: string; readonly redirectUri: string },
): Promise<void> {
  await tx
    .insertInto("login_authorization")
    .values({
      hash: code.hash,
      code_challenge: code.codeChallenge,
      redirect_uri: code.redirectUri,
      scopes: code.scopes && JSON.stringify(code.scopes),
      user_id: code.userId,
      expires_at: after(codeMs),
    })
    .execute();
}

/** What a code was given for, which is used up by `grantId`. One that is shown twice ends the grant it was used for; one shown with something wrong is void. */
export async function takeCode(
  tx: Transaction,
  shown: { readonly hash: string; readonly codeChallenge: string; readonly redirectUri: string },
  grantId: string,
): Promise<Authorized | undefined> {
  const taken = await useUp(tx, shown.hash, grantId)
    .where("user_code", "is", null)
    .where("code_challenge", "=", shown.codeChallenge)
    .where("redirect_uri", "=", shown.redirectUri)
    .executeTakeFirst();
  if (taken) return toAuthorized(taken);
  const used = await tx
    .deleteFrom("login_authorization")
    .where("hash", "=", shown.hash)
    .where("user_code", "is", null)
    .returning("grant_id")
    .executeTakeFirst();
  if (used?.grant_id) await deleteGrant(tx, used.grant_id);
  return undefined;
}

/** Begins a device's login (RFC 8628). Rejects with BerthError `rate_limited` while too many wait. */
export async function insertDevice(
  tx: Transaction,
  device: { readonly hash: string; readonly userCode: string; readonly scopes: readonly string[] | null },
): Promise<void> {
  await pruneAuthorizations(tx);
  const { waiting } = await tx
    .selectFrom("login_authorization")
    .select((eb) => eb.fn.countAll<number>().as("waiting"))
    .where("user_code", "is not", null)
    .executeTakeFirstOrThrow();
  if (Number(waiting) >= maxDevices)
    throw new BerthError("rate_limited", "Too many devices wait to be let in.", { retryAfterSeconds: 60 });
  await tx
    .insertInto("login_authorization")
    .values({
      hash: device.hash,
      user_code: device.userCode,
      scopes: device.scopes && JSON.stringify(device.scopes),
      expires_at: after(deviceCodeMs),
    })
    .execute();
}

/** Notes what a user says to a device that shows this code. Resolves with whether there is one that waits for it. */
export async function decideDevice(
  tx: Transaction,
  decision: { readonly userCode: string; readonly userId: string; readonly allow: boolean },
): Promise<boolean> {
  const { userCode, userId, allow } = decision;
  const decided = await tx
    .updateTable("login_authorization")
    .set(allow ? { user_id: userId } : { refused_at: now })
    .where("user_code", "=", userCode)
    .where("user_id", "is", null)
    .where("refused_at", "is", null)
    .where("expires_at", ">", now)
    .returning("hash")
    .executeTakeFirst();
  return decided !== undefined;
}

/** What a device hears that asks; `pending` and `too_soon` while nobody has said anything. */
export type DeviceAnswer =
  | { readonly kind: "allowed"; readonly authorized: Authorized }
  | { readonly kind: "refused" | "unknown" | "pending" | "too_soon" };

/** Answers a device; when its user has allowed it, that is used up by `grantId`. */
export async function askForDevice(tx: Transaction, hash: string, grantId: string): Promise<DeviceAnswer> {
  const taken = await useUp(tx, hash, grantId).where("user_code", "is not", null).executeTakeFirst();
  if (taken) return { kind: "allowed", authorized: toAuthorized(taken) };
  const row = await tx
    .selectFrom("login_authorization")
    .select(["refused_at", sql<number | null>`berth_now() - asked_at`.as("asked_ago")])
    .where("hash", "=", hash)
    .where("user_code", "is not", null)
    .where("grant_id", "is", null)
    .where("expires_at", ">", now)
    .executeTakeFirst();
  if (!row) return { kind: "unknown" };
  if (row.refused_at !== null) return { kind: "refused" };
  await tx.updateTable("login_authorization").set({ asked_at: now }).where("hash", "=", hash).execute();
  const isTooSoon = row.asked_ago !== null && Number(row.asked_ago) < deviceIntervalMs / 2;
  return { kind: isTooSoon ? "too_soon" : "pending" };
}

/** Uses up, once and in time, what somebody has allowed: for this grant. */
function useUp(tx: Transaction, hash: string, grantId: string) {
  return tx
    .updateTable("login_authorization")
    .set({ grant_id: grantId })
    .where("hash", "=", hash)
    .where("user_id", "is not", null)
    .where("grant_id", "is", null)
    .where("expires_at", ">", now)
    .returning([sql<string>`user_id`.as("user_id"), "scopes"]);
}

function toAuthorized(row: { readonly user_id: string; readonly scopes: string | null }): Authorized {
  return { userId: row.user_id, scopes: readScopes(row.scopes, "login_authorization.scopes") };
}

/** Forgets what nobody has fetched in time. */
export async function pruneAuthorizations(queries: Queries): Promise<void> {
  await queries.deleteFrom("login_authorization").where("expires_at", "<=", now).execute();
}
