import { sql } from "kysely";
import { isPostgres } from "../store/operation-claims.ts";
import { type OperationRow, operationTopic, workTopic } from "../store/operations.ts";
import { wakeAfter } from "../store/pending.ts";
import type { Queries, Store } from "../store/store.ts";
import { appendOperationEvent } from "./start.ts";

/** Who claims, and what it can run. */
export interface Claimer {
  readonly nodeId: string;
  readonly types: readonly string[];
  readonly leaseMs: number;
}

const now = sql<number>`berth_now()`;

/**
 * The operations that this claimer may run, once they are due and nobody has a lease on them: those with all they claim, and those only to be cancelled. None of those
 * that `running` names, which it runs already: their leases are on the store's clock, and look as if they had run out when that jumps.
 */
function claimable(queries: Queries, { nodeId, types }: Claimer, running: readonly string[]) {
  return queries
    .selectFrom("operation")
    .where("ended_at", "is", null)
    .where((eb) => eb.or([eb("claims_missing", "=", 0), eb("cancel_requested", "=", 1)]))
    .where((eb) => eb.or([eb("node_id", "is", null), eb("node_id", "=", nodeId)]))
    .where("type", "in", types)
    .$if(running.length > 0, (query) => query.where("id", "not in", running));
}

/**
 * Takes the next operation that is due: the highest rank first, then the oldest. Its lease, on the store's clock, keeps others off; its fence tells a worker that lost
 * it. `running` are the ids of those that the claimer runs already. Undefined when there is nothing to do.
 */
export async function claimNext(
  store: Store,
  claimer: Claimer,
  running: readonly string[] = [],
): Promise<OperationRow | undefined> {
  return store.transaction(async (tx) => {
    const next = claimable(tx, claimer, running)
      .select("seq")
      .where("due_at", "<=", now)
      .where("lease_until", "<=", now)
      .orderBy("rank", "desc")
      .orderBy("seq")
      .limit(1)
      .$if(isPostgres(tx), (query) => query.forUpdate().skipLocked());
    const row = await tx
      .updateTable("operation")
      .set((eb) => ({
        lease_owner: claimer.nodeId,
        lease_until: sql<number>`berth_now() + ${claimer.leaseMs}`,
        fence: eb("fence", "+", 1),
        attempt: sql<number>`attempt + 1 - waiting`,
        waiting: 0,
        waits_for: null,
        status: sql<string>`case when status = 'pending' then 'running' else status end`,
        reason: "",
        started_at: sql<number>`coalesce(started_at, berth_now())`,
      }))
      .where("seq", "=", next)
      .returningAll()
      .executeTakeFirst();
    if (row?.fence === 1) appendOperationEvent(tx, row, "operation.started");
    if (row) wakeAfter(tx, operationTopic(row.id));
    return row;
  });
}

/** In how many milliseconds the next operation is due beside those that run here; undefined when none is. */
export async function timeToNext(
  store: Store,
  claimer: Claimer,
  running: readonly string[],
): Promise<number | undefined> {
  const larger = sql`case when due_at > lease_until then due_at else lease_until end`;
  const row = await claimable(store.queries, claimer, running)
    .select(sql<number | null>`min(${larger}) - berth_now()`.as("ms"))
    .executeTakeFirst();
  return row?.ms ?? undefined;
}

/** One operation that runs here. */
export interface Lease {
  readonly id: string;
  readonly fence: number;
}

/**
 * Looks after the operations that run here: prolongs their leases when asked to, and tells which are still ours and which are to be cancelled.
 */
export async function checkLeases(
  store: Store,
  leases: readonly Lease[],
  prolongMs: number | undefined,
): Promise<Map<string, { readonly fence: number; readonly cancelRequested: boolean }>> {
  const ids = leases.map(({ id }) => id);
  if (ids.length === 0) return new Map();
  const rows =
    prolongMs === undefined
      ? await store.queries
          .selectFrom("operation")
          .select(["id", "fence", "cancel_requested"])
          .where("id", "in", ids)
          .execute()
      : await store.queries
          .updateTable("operation")
          .set({ lease_until: sql<number>`berth_now() + ${prolongMs}` })
          .where((eb) => eb.or(leases.map(({ id, fence }) => eb.and({ id, fence }))))
          .where("ended_at", "is", null)
          .where("lease_until", ">", 0)
          .returning(["id", "fence", "cancel_requested"])
          .execute();
  return new Map(rows.map((row) => [row.id, { fence: row.fence, cancelRequested: row.cancel_requested === 1 }]));
}

/** Gives back the leases that a daemon of this node left behind when it died: nobody else has its node id, so they can be claimed at once. */
export async function releaseLeases(store: Store, nodeId: string): Promise<void> {
  await store.transaction(async (tx) => {
    await tx
      .updateTable("operation")
      .set({ lease_until: 0, lease_owner: null })
      .where("lease_owner", "=", nodeId)
      .where("ended_at", "is", null)
      .execute();
    wakeAfter(tx, workTopic);
  });
}
