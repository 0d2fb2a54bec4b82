import { sql } from "kysely";
import type { Queries, Transaction } from "./store.ts";

/** One operation's stake in a resource: it has it, or waits for it. */
export interface Claim {
  readonly resource: string;
  readonly operationId: string;
  readonly held: boolean;
  readonly rank: number;
  readonly type: string;
  readonly targetName: string;
  readonly cancelling: boolean;
}

/** Whether the store is a PostgreSQL, where transactions run side by side. */
export function isPostgres(queries: Queries): boolean {
  return queries.getExecutor().adapter.supportsMultipleConnections !== false;
}

/**
 * Keeps every other transaction from changing who claims these resources until this one ends. Taken in one order by all, so that two never wait for each other.
 * SQLite has one writer anyway.
 */
export async function lockResources(tx: Transaction, resources: readonly string[]): Promise<void> {
  if (!isPostgres(tx)) return;
  for (const resource of resources.toSorted()) {
    await sql`select pg_advisory_xact_lock(hashtextextended(${resource}, 0))`.execute(tx);
  }
}

/** Who claims these resources, in the order in which they will have them. */
export async function readClaims(queries: Queries, resources: readonly string[]): Promise<Claim[]> {
  if (resources.length === 0) return [];
  const rows = await queries
    .selectFrom("operation_claim as claim")
    .innerJoin("operation", "operation.id", "claim.operation_id")
    .select(["claim.resource", "claim.operation_id", "claim.held", "claim.rank"])
    .select(["operation.type", "operation.target_name", "operation.cancel_requested"])
    .where("claim.resource", "in", resources)
    .orderBy("claim.held", "desc")
    .orderBy("claim.rank", "desc")
    .orderBy("claim.seq")
    .execute();
  return rows.map((row) => ({
    resource: row.resource,
    operationId: row.operation_id,
    held: row.held === 1,
    rank: row.rank,
    type: row.type,
    targetName: row.target_name,
    cancelling: row.cancel_requested === 1,
  }));
}

/** What an operation claims. */
export async function readOwnResources(queries: Queries, operationId: string): Promise<string[]> {
  const rows = await queries
    .selectFrom("operation_claim")
    .select("resource")
    .where("operation_id", "=", operationId)
    .execute();
  return rows.map(({ resource }) => resource);
}

/** Gives an operation's resources to those who wait for them: the highest rank first, then the oldest. The resources are locked. */
export async function passOnClaims(tx: Transaction, operationId: string, resources: readonly string[]): Promise<void> {
  await tx.deleteFrom("operation_claim").where("operation_id", "=", operationId).execute();
  for (const resource of resources) {
    const claims = await tx
      .selectFrom("operation_claim")
      .select(["operation_id", "held"])
      .where("resource", "=", resource)
      .orderBy("held", "desc")
      .orderBy("rank", "desc")
      .orderBy("seq")
      .limit(1)
      .execute();
    const next = claims[0];
    if (!next || next.held === 1) continue;
    await tx
      .updateTable("operation_claim")
      .set({ held: 1 })
      .where("resource", "=", resource)
      .where("operation_id", "=", next.operation_id)
      .execute();
    await tx
      .updateTable("operation")
      .set((eb) => ({ claims_missing: eb("claims_missing", "-", 1) }))
      .where("id", "=", next.operation_id)
      .execute();
  }
}
