import { BerthError } from "@berth/api";
import { sql } from "kysely";
import { z } from "zod";
import { readJson } from "./json.ts";
import type { Queries, Transaction } from "./store.ts";

/** How long an answer is kept for a repeated request, in milliseconds: a day. */
const idempotencyMs = 24 * 3600 * 1000;

/** A client's promise that requests with this key are one and the same. */
export interface IdempotencyKey {
  readonly project: string;
  readonly tokenId: string;
  readonly key: string;
  /** Digest of method, path, query and body. */
  readonly requestHash: string;
}

/** The answer a request was given. */
export interface KeptResponse {
  readonly status: number;
  readonly body: unknown;
}

/**
 * Answers a request once: the first time by `respond`, whose answer is kept with its changes in the same transaction; afterwards by the kept answer, across
 * restarts, for a day. A second request that comes while the first is still being answered waits for it. Rejects with BerthError
 * `idempotency_mismatch` when the key was used for another request.
 */
export async function respondOnce(
  tx: Transaction,
  key: IdempotencyKey,
  respond: () => Promise<KeptResponse>,
): Promise<KeptResponse & { readonly replayed: boolean }> {
  const now = sql<number>`berth_now()`;
  const named = { project: key.project, token_id: key.tokenId, key: key.key };
  await tx
    .deleteFrom("idempotency_key")
    .where((eb) => eb.and(named))
    .where("expires_at", "<=", now)
    .execute();
  const inserted = await tx
    .insertInto("idempotency_key")
    .values({
      ...named,
      request_hash: key.requestHash,
      status: 0,
      response: "null",
      created_at: now,
      expires_at: sql<number>`berth_now() + ${idempotencyMs}`,
    })
    .onConflict((conflict) => conflict.columns(["project", "token_id", "key"]).doNothing())
    .returning("key")
    .executeTakeFirst();
  if (!inserted) return { ...(await readKept(tx, key)), replayed: true };
  const response = await respond();
  await tx
    .updateTable("idempotency_key")
    .set({ status: response.status, response: JSON.stringify(response.body ?? null) })
    .where((eb) => eb.and(named))
    .execute();
  return { ...response, replayed: false };
}

async function readKept(tx: Transaction, key: IdempotencyKey): Promise<KeptResponse> {
  const row = await tx
    .selectFrom("idempotency_key")
    .selectAll()
    .where((eb) => eb.and({ project: key.project, token_id: key.tokenId, key: key.key }))
    .executeTakeFirstOrThrow();
  if (row.request_hash !== key.requestHash) {
    throw new BerthError("idempotency_mismatch", `The key ${key.key} was used for another request.`);
  }
  return { status: row.status, body: readJson(z.json(), row.response, "idempotency_key.response") };
}

/** Forgets answers that have been kept long enough. */
export async function pruneIdempotencyKeys(queries: Queries): Promise<void> {
  await queries.deleteFrom("idempotency_key").where("expires_at", "<=", sql<number>`berth_now()`).execute();
}
