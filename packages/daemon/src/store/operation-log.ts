import { sql } from "kysely";
import type { Queries, Transaction } from "./store.ts";

/** A line of an operation's log; `seq` counts from 1, and a jump in it is lines that were left out. */
export interface LogLine {
  readonly seq: number;
  readonly line: string;
}

/** The lines after number `after`, at most `limit`. */
export async function readLog(queries: Queries, operationId: string, after: number, limit: number): Promise<LogLine[]> {
  return queries
    .selectFrom("operation_log")
    .select(["seq", "line"])
    .where("operation_id", "=", operationId)
    .where("seq", ">", after)
    .orderBy("seq")
    .limit(limit)
    .execute();
}

/** Adds lines and takes out those numbered from `after` (exclusive) to `to` (inclusive). */
export async function writeLog(
  tx: Transaction,
  operationId: string,
  lines: readonly LogLine[],
  leftOut: { readonly after: number; readonly to: number },
): Promise<void> {
  if (leftOut.to > leftOut.after) {
    await tx
      .deleteFrom("operation_log")
      .where("operation_id", "=", operationId)
      .where("seq", ">", leftOut.after)
      .where("seq", "<=", leftOut.to)
      .execute();
  }
  // Both stores bound the number of parameters in a statement; 500 lines are 2,000.
  for (let first = 0; first < lines.length; first += 500) {
    const rows = lines.slice(first, first + 500).map(({ seq, line }) => ({
      operation_id: operationId,
      seq,
      at: sql<number>`berth_now()`,
      line,
    }));
    await tx.insertInto("operation_log").values(rows).execute();
  }
}
