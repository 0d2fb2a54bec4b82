import { type Operation, OperationStatus, OperationStep, Problem } from "@berth/api";
import type { Selectable } from "kysely";
import { readJson, toTimestamp } from "./json.ts";
import { type Page, readSeqCursor, toPage } from "./page.ts";
import type { OperationStepTable, OperationTable } from "./schema.ts";
import type { Queries } from "./store.ts";

export type OperationRow = Selectable<OperationTable>;
export type OperationStepRow = Selectable<OperationStepTable>;

/** Wakes who may run operations: there is a new one, one is free to go on, or one is to be cancelled. */
export const workTopic = "work";

/** Wakes who watches one operation. */
export function operationTopic(id: string): string {
  return `operation/${id}`;
}

/** What an operation on an object claims, so that no other changes it at the same time. */
export function resourceOf(kind: string, id: string): string {
  return `${kind}:${id}`;
}

/** An operation as the API shows it; `steps` in the order in which they began. */
export function toOperation(row: OperationRow, steps: readonly OperationStepRow[]): Operation {
  return {
    id: row.id,
    type: row.type,
    project: row.project,
    status: OperationStatus.parse(row.status),
    target: { kind: row.target_kind, id: row.target_id, name: row.target_name },
    steps: steps.map(toStep),
    reason: row.reason,
    error: row.error === null ? null : readJson(Problem, row.error, "operation.error"),
    attempt: row.attempt,
    createdAt: toTimestamp(row.created_at),
    startedAt: row.started_at === null ? null : toTimestamp(row.started_at),
    endedAt: row.ended_at === null ? null : toTimestamp(row.ended_at),
  };
}

function toStep(row: OperationStepRow): OperationStep {
  return {
    name: row.name,
    status: OperationStep.shape.status.parse(row.status),
    startedAt: toTimestamp(row.started_at),
    endedAt: row.ended_at === null ? null : toTimestamp(row.ended_at),
    percent: row.percent,
    detail: row.detail,
  };
}

/** The operation with this id; undefined when there is none. */
export async function readOperation(queries: Queries, id: string): Promise<Operation | undefined> {
  const row = await queries.selectFrom("operation").selectAll().where("id", "=", id).executeTakeFirst();
  return row && toOperation(row, await readSteps(queries, [id]));
}

/** The steps of operations, in the order in which they began. */
export async function readSteps(queries: Queries, ids: readonly string[]): Promise<OperationStepRow[]> {
  if (ids.length === 0) return [];
  return queries
    .selectFrom("operation_step")
    .selectAll()
    .where("operation_id", "in", ids)
    .orderBy("position")
    .execute();
}

/** A page of operations with their steps, newest first; of all projects when none is named. `target` is the id of an object. */
export async function listOperations(
  queries: Queries,
  options: {
    readonly project?: string | undefined;
    readonly target?: string | undefined;
    readonly status?: OperationStatus | undefined;
    readonly unfinished?: boolean | undefined;
    readonly cursor?: string | undefined;
    readonly limit: number;
  },
): Promise<Page<Operation>> {
  const { project, target, status, unfinished, cursor, limit } = options;
  let query = queries
    .selectFrom("operation")
    .selectAll()
    .orderBy("seq", "desc")
    .limit(limit + 1);
  if (project !== undefined) query = query.where("project", "=", project);
  if (target !== undefined) query = query.where("target_id", "=", target);
  if (status !== undefined) query = query.where("status", "=", status);
  if (unfinished !== undefined) query = query.where("ended_at", unfinished ? "is" : "is not", null);
  if (cursor !== undefined) query = query.where("seq", "<", readSeqCursor(cursor));
  const rows = await query.execute();
  const steps = Map.groupBy(
    await readSteps(
      queries,
      rows.map(({ id }) => id),
    ),
    (step) => step.operation_id,
  );
  return toPage(
    rows,
    limit,
    (row) => [row.seq],
    (row) => toOperation(row, steps.get(row.id) ?? []),
  );
}

/** Whether an operation of one of these types has not ended yet, on whatever node. */
export async function isUnfinished(queries: Queries, types: readonly string[]): Promise<boolean> {
  const row = await queries
    .selectFrom("operation")
    .select("id")
    .where("ended_at", "is", null)
    .where("type", "in", types)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** Forgets operations that ended before `endedBefore` (milliseconds since the epoch), with their steps and logs. */
export async function pruneOperations(queries: Queries, endedBefore: number): Promise<void> {
  await queries.deleteFrom("operation").where("ended_at", "<", endedBefore).execute();
}
