import { BerthError, type Operation } from "@berth/api";
import { sql } from "kysely";
import { newId } from "../core/ids.ts";
import { appendEvent } from "../store/events.ts";
import { type Claim, lockResources, readClaims } from "../store/operation-claims.ts";
import { type OperationRow, operationTopic, readOperation, toOperation, workTopic } from "../store/operations.ts";
import { wakeAfter } from "../store/pending.ts";
import type { Transaction } from "../store/store.ts";
import type { Json } from "./workflow.ts";

/** Work to be done. */
export interface StartOperation {
  /** Names its workflow: `instance.create`. */
  readonly type: string;
  readonly project: string;
  /** What it works on; `name` is for people. */
  readonly target: { readonly kind: string; readonly id: string; readonly name: string };
  /** What no other operation may touch meanwhile: see `resourceOf`. */
  readonly claims: readonly string[];
  /** Never a secret. */
  readonly input: Json;
  /** Waits for what others hold, in the order of asking, instead of being refused. */
  readonly queue?: boolean;
  /**
   * 0 when not given. It cancels the holders of lower rank and is the next after them; so a forced stop (1) goes before a start, and a delete (2) before both.
   */
  readonly rank?: number;
  /** The only node that can do it; null for any. */
  readonly nodeId: string | null;
  /** The token or controller that asks. */
  readonly requestedBy: string;
}

/**
 * Writes down work to be done, in the caller's transaction; it begins once that is committed. Call it before changing rows that workflows change too, so that the
 * locks are taken in one order. Rejects with BerthError `busy`, naming the holder, when something claimed is held by an operation of the same or a
 * higher rank, unless `queue` is set.
 */
export async function startOperation(tx: Transaction, request: StartOperation): Promise<Operation> {
  const resources = [...new Set(request.claims)].toSorted();
  await lockResources(tx, resources);
  const claims = await readClaims(tx, resources);
  const rank = request.rank ?? 0;
  const inTheWay = claims.find((claim) => claim.rank >= rank);
  if (inTheWay && !request.queue) throw busy(inTheWay);

  const holders = claims.filter((claim) => claim.held);
  for (const holder of holders.filter((claim) => claim.rank < rank)) await requestCancel(tx, holder.operationId);
  const row = await insertOperation(tx, request, rank, holders);
  if (resources.length > 0) {
    const taken = new Set(holders.map((holder) => holder.resource));
    await tx
      .insertInto("operation_claim")
      .values(
        resources.map((resource) => ({
          resource,
          operation_id: row.id,
          held: taken.has(resource) ? 0 : 1,
          rank,
          seq: row.seq,
        })),
      )
      .execute();
  }
  appendOperationEvent(tx, row, "operation.created");
  wakeAfter(tx, workTopic);
  return toOperation(row, []);
}

/** Refuses what somebody else works on, and names whose work it is. */
export function busy(claim: Claim): BerthError {
  return new BerthError("busy", `${claim.targetName} is held by ${claim.type} (${claim.operationId}).`, {
    operationId: claim.operationId,
  });
}

async function insertOperation(
  tx: Transaction,
  request: StartOperation,
  rank: number,
  holders: readonly Claim[],
): Promise<OperationRow> {
  const now = sql<number>`berth_now()`;
  const first = holders[0];
  return tx
    .insertInto("operation")
    .values({
      id: newId("operation"),
      type: request.type,
      project: request.project,
      target_kind: request.target.kind,
      target_id: request.target.id,
      target_name: request.target.name,
      rank,
      input: JSON.stringify(request.input),
      requested_by: request.requestedBy,
      status: "pending",
      reason: first ? `waits for ${first.type} (${first.operationId})` : "",
      node_id: request.nodeId,
      attempt: 0,
      failures: 0,
      waiting: 0,
      wakes: 0,
      claims_missing: holders.length,
      cancel_requested: 0,
      due_at: now,
      lease_until: 0,
      fence: 0,
      created_at: now,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
}

/**
 * The unfinished operation of this type that has the first of the claims, or a new one: two that need the same thing share the work. One that is being cancelled is not
 * joined. Wait for it with a decision `{waitUntil, operationId}`.
 */
export async function joinOrStart(
  tx: Transaction,
  request: StartOperation,
): Promise<{ readonly operation: Operation; readonly joined: boolean }> {
  await lockResources(tx, [...new Set(request.claims)]);
  const claims = await readClaims(tx, request.claims.slice(0, 1));
  const same = claims.find((claim) => claim.type === request.type && !claim.cancelling);
  const shared = same && (await readOperation(tx, same.operationId));
  if (shared) return { operation: shared, joined: true };
  return { operation: await startOperation(tx, request), joined: false };
}

/**
 * Asks for an operation to be given up; what it began is undone. Does nothing when it is ending already. Rejects with BerthError `not_found`, or `operation_final`
 * when it has ended.
 */
export async function cancelOperation(tx: Transaction, id: string): Promise<Operation> {
  await requestCancel(tx, id);
  const operation = await readOperation(tx, id);
  if (!operation) throw new BerthError("not_found", `There is no operation ${id}.`);
  if (operation.endedAt !== null) throw new BerthError("operation_final", `${id} is ${operation.status} already.`);
  return operation;
}

async function requestCancel(tx: Transaction, id: string): Promise<void> {
  await tx
    .updateTable("operation")
    .set((eb) => ({
      cancel_requested: 1,
      status: "cancelling",
      reason: "",
      wakes: eb("wakes", "+", 1),
      due_at: sql<number>`berth_now()`,
    }))
    .where("id", "=", id)
    .where("ended_at", "is", null)
    .where("ending", "is", null)
    .where("cancel_requested", "=", 0)
    .execute();
  wakeAfter(tx, workTopic);
  wakeAfter(tx, operationTopic(id));
}

/** Records what happened to an operation. */
export function appendOperationEvent(
  tx: Transaction,
  row: OperationRow,
  type: string,
  data: { [key: string]: Json } = {},
) {
  const target = { kind: row.target_kind, id: row.target_id, name: row.target_name };
  appendEvent(tx, {
    type,
    project: row.project,
    subject: { kind: "operation", id: row.id, name: row.type },
    operationId: row.id,
    data: { target, ...data },
  });
}
