import { BerthError, isId, Role, type Token, TokenScope } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { z } from "zod";
import { readJson, toTimestamp } from "./json.ts";
import { isNoted } from "./last-use.ts";
import { newestFirst, type Page, type PageBounds, toPage } from "./page.ts";
import { wakeAfter } from "./pending.ts";
import { prepare } from "./prepared.ts";
import type { TokenTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";

/** Wakes who remembers what a token may do, or serves somebody by one: some may do less from now on. */
export const tokenTopic = "tokens";

export type NewTokenRow = Pick<Token, "id" | "name" | "role" | "project" | "scopes" | "prefix"> & {
  /** SHA-256 of its secret, in hex. */
  readonly hash: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number | null;
};

const Scopes = z.array(TokenScope);

/** The scopes of a column; null for no limit. */
export function readScopes(text: string | null, column: string): Token["scopes"] {
  return text === null ? null : readJson(Scopes, text, column);
}

function toToken(row: Omit<Selectable<TokenTable>, "hash" | "revoked_at">): Token {
  return {
    id: row.id,
    name: row.name,
    project: row.project,
    role: Role.parse(row.role),
    scopes: readScopes(row.scopes, "token.scopes"),
    prefix: row.prefix,
    createdAt: toTimestamp(row.created_at),
    expiresAt: row.expires_at === null ? null : toTimestamp(row.expires_at),
    lastUsedAt: row.used_at === null ? null : toTimestamp(row.used_at),
  };
}

const columns = [
  "id",
  "name",
  "project",
  "role",
  "scopes",
  "prefix",
  "created_at",
  "expires_at",
  "used_at",
] as const satisfies (keyof TokenTable)[];

/** Adds a token. Rejects with BerthError `name_taken`. */
export async function insertToken(tx: Transaction, token: NewTokenRow): Promise<Token> {
  const { id, name, hash, role, project, scopes, prefix, expiresAt } = token;
  const row = await tx
    .insertInto("token")
    .values({
      id,
      name,
      hash,
      role,
      project,
      scopes: scopes && JSON.stringify(scopes),
      prefix,
      created_at: sql<number>`berth_now()`,
      used_at: null,
      expires_at: expiresAt,
      revoked_at: null,
    })
    .onConflict((conflict) => conflict.doNothing())
    .returning(columns)
    .executeTakeFirst();
  if (!row) throw new BerthError("name_taken", `There is already a token named ${name}.`);
  return toToken(row);
}

const selectGood = (queries: Queries) =>
  queries
    .selectFrom("token")
    .select(columns)
    .where("revoked_at", "is", null)
    .where((eb) => eb.or([eb("expires_at", "is", null), eb("expires_at", ">", sql<number>`berth_now()`)]));
const selectByHash = prepare((queries, hash: string) => selectGood(queries).where("hash", "=", hash));
const selectById = prepare((queries, id: string) => selectGood(queries).where("id", "=", id));

/** The token whose secret has this SHA-256, unless it has expired or was revoked. */
export async function findTokenByHash(queries: Queries, hash: string): Promise<Token | undefined> {
  const [row] = await selectByHash(queries, hash);
  return row && toToken(row);
}

/** The token with this id, unless it has expired or was revoked. */
export async function findGoodToken(queries: Queries, id: string): Promise<Token | undefined> {
  const [row] = await selectById(queries, id);
  return row && toToken(row);
}

/** Whether the token whose secret has this SHA-256 was revoked. */
export async function isRevoked(queries: Queries, hash: string): Promise<boolean> {
  const row = await queries.selectFrom("token").select("revoked_at").where("hash", "=", hash).executeTakeFirst();
  return row !== undefined && row.revoked_at !== null;
}

/** Notes that a token was used just now, unless that was noted a moment ago. */
export async function touchToken(
  queries: Queries,
  { id, lastUsedAt }: Pick<Token, "id" | "lastUsedAt">,
): Promise<void> {
  if (lastUsedAt !== null && isNoted(Date.parse(lastUsedAt))) return;
  await queries.updateTable("token").set({ used_at: sql<number>`berth_now()` }).where("id", "=", id).execute();
}

/**
 * The token with this id or name; undefined when there is none. Without a project it may be of any, and a name that several projects have rejects with BerthError
 * `invalid_request`.
 */
export async function findToken(
  queries: Queries,
  project: string | undefined,
  idOrName: string,
): Promise<Token | undefined> {
  let query = queries
    .selectFrom("token")
    .select(columns)
    .where("revoked_at", "is", null)
    .where(isId(idOrName) ? "id" : "name", "=", idOrName)
    .limit(2);
  if (project !== undefined) query = query.where("project", "=", project);
  const [row, other] = await query.execute();
  if (other) throw new BerthError("invalid_request", `Several tokens are named ${idOrName}: say which by its id.`);
  return row && toToken(row);
}

/** The token for the whole system of this name; undefined when there is none. */
export async function findSystemToken(queries: Queries, name: string): Promise<Token | undefined> {
  const row = await queries
    .selectFrom("token")
    .select(columns)
    .where("project", "is", null)
    .where("name", "=", name)
    .where("revoked_at", "is", null)
    .executeTakeFirst();
  return row && toToken(row);
}

/** A page of tokens that were not revoked, newest first; of all projects, and those for the whole system, when none is named. */
export async function listTokens(
  queries: Queries,
  options: PageBounds & { readonly project: string | undefined },
): Promise<Page<Token>> {
  let query = queries.selectFrom("token").select(columns).where("revoked_at", "is", null);
  if (options.project !== undefined) query = query.where("project", "=", options.project);
  return toPage(await newestFirst(query, options).execute(), options.limit, (row) => [row.created_at, row.id], toToken);
}

/** Revokes a token; nothing happens when it was before. Its name is free again. */
export async function revokeToken(tx: Transaction, id: string): Promise<void> {
  await tx
    .updateTable("token")
    .set({ revoked_at: sql<number>`berth_now()` })
    .where("id", "=", id)
    .where("revoked_at", "is", null)
    .execute();
  wakeAfter(tx, tokenTopic);
}

/** Removes all tokens of a project. */
export async function deleteProjectTokens(tx: Transaction, project: string): Promise<void> {
  await tx.deleteFrom("token").where("project", "=", project).execute();
  wakeAfter(tx, tokenTopic);
}

/** Forgets tokens that expired before `endedBefore` (milliseconds since the epoch); revoked ones stay, so that nothing brings them back. */
export async function pruneTokens(queries: Queries, endedBefore: number): Promise<void> {
  await queries.deleteFrom("token").where("expires_at", "<", endedBefore).where("revoked_at", "is", null).execute();
}
