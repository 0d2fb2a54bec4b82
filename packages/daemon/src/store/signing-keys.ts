import { sql } from "kysely";
import type { Queries } from "./store.ts";

/** A key by which access tokens are verified: its JWK (RFC 7517) as JSON. */
export interface SigningKey {
  readonly id: string;
  readonly publicKey: string;
}

/** Adds a key, to be known for so long. */
export async function insertSigningKey(
  queries: Queries,
  { id, publicKey }: SigningKey,
  lifetimeMs: number,
): Promise<void> {
  await queries
    .insertInto("signing_key")
    .values({ id, public_key: publicKey, expires_at: sql<number>`berth_now() + ${lifetimeMs}` })
    .execute();
}

/** The keys that are known, of every berthd of the store. */
export async function listSigningKeys(queries: Queries): Promise<SigningKey[]> {
  const rows = await queries
    .selectFrom("signing_key")
    .select(["id", "public_key"])
    .where("expires_at", ">", sql<number>`berth_now()`)
    .orderBy("id")
    .execute();
  return rows.map(({ id, public_key }) => ({ id, publicKey: public_key }));
}
