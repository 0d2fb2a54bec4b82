import { type Selectable, sql } from "kysely";
import { prepare } from "./prepared.ts";
import type { TokenTable } from "./schema.ts";
import type { Queries } from "./store.ts";

/** A credential, without its secret. Times are milliseconds since the epoch. */
export interface Token {
  readonly id: string;
  readonly name: string;
  readonly role: string;
  /** The project it is confined to; null for all. */
  readonly project: string | null;
  readonly createdAt: number;
  readonly usedAt: number | null;
  readonly expiresAt: number | null;
}

function toToken(row: Omit<Selectable<TokenTable>, "hash">): Token {
  return {
    id: row.id,
    name: row.name,
    role: row.role,
    project: row.project,
    createdAt: row.created_at,
    usedAt: row.used_at,
    expiresAt: row.expires_at,
  };
}

const columns = ["id", "name", "role", "project", "created_at", "used_at", "expires_at"] as const;

/** Adds a token. `hash` is the SHA-256 of its secret in hex. */
export async function insertToken(
  queries: Queries,
  token: Pick<Token, "id" | "name" | "role" | "project" | "expiresAt"> & { readonly hash: string },
): Promise<void> {
  const { id, name, hash, role, project, expiresAt } = token;
  await queries
    .insertInto("token")
    .values({
      id,
      name,
      hash,
      role,
      project,
      created_at: sql<number>`berth_now()`,
      used_at: null,
      expires_at: expiresAt,
    })
    .execute();
}

const selectByHash = prepare((queries, hash: string) =>
  queries
    .selectFrom("token")
    .select(columns)
    .where("hash", "=", hash)
    .where((eb) => eb.or([eb("expires_at", "is", null), eb("expires_at", ">", sql<number>`berth_now()`)])),
);

/** The token whose secret has this SHA-256, unless it has expired. */
export async function findTokenByHash(queries: Queries, hash: string): Promise<Token | undefined> {
  const [row] = await selectByHash(queries, hash);
  return row && toToken(row);
}

/** How exactly the last use of a token is known, in milliseconds: a minute. Writing it at each request would cost more than most requests. */
const usedAtMs = 60_000;

/** Notes that a token was used just now, unless that was noted a moment ago. */
export async function touchToken(queries: Queries, token: Pick<Token, "id" | "usedAt">): Promise<void> {
  if (token.usedAt !== null && Math.abs(Date.now() - token.usedAt) < usedAtMs) return;
  await queries.updateTable("token").set({ used_at: sql<number>`berth_now()` }).where("id", "=", token.id).execute();
}

/** All tokens, oldest first. */
export async function listTokens(queries: Queries): Promise<Token[]> {
  return (await queries.selectFrom("token").select(columns).orderBy("created_at").execute()).map(toToken);
}

/** Takes a token away; nothing happens when it is already gone. */
export async function deleteToken(queries: Queries, id: string): Promise<void> {
  await queries.deleteFrom("token").where("id", "=", id).execute();
}
