import { BerthError, type ErrorCode, errorCatalogue, Problem, toProblem } from "@berth/api";
import { sql } from "kysely";
import { z } from "zod";
import { readJson } from "../store/json.ts";
import { isPostgres, lockResources, passOnClaims, readOwnResources } from "../store/operation-claims.ts";
import { type OperationRow, type OperationStepRow, operationTopic, readSteps, workTopic } from "../store/operations.ts";
import { wakeAfter } from "../store/pending.ts";
import { readClock, type Store, type Transaction } from "../store/store.ts";
import type { Lease } from "./claim.ts";
import { appendOperationEvent } from "./start.ts";
import type { Claimed, Journal, Json, Outcome, StepOutcome } from "./workflow.ts";

/** Thrown when another worker has claimed the operation since, or it was given back: whatever was being done is dropped. */
export class FencedError extends Error {
  constructor(lease: Lease) {
    super(`operation ${lease.id} is no longer ours (fence ${lease.fence})`);
    this.name = "FencedError";
  }
}

/** How an operation that is being undone will end. */
const Ending = z.object({
  status: z.enum(["failed", "cancelled"]),
  problem: Problem,
  kept: z.boolean(),
  result: z.custom<Json>().default(null),
});
export type Ending = z.infer<typeof Ending>;

/** All that the store knows of a claimed operation. */
export interface OperationState {
  readonly claimed: Claimed;
  readonly steps: readonly OperationStepRow[];
  readonly journal: Journal;
  readonly cancelRequested: boolean;
  readonly ending: Ending | null;
  readonly failures: number;
  readonly wakes: number;
  /** The store's clock. */
  readonly now: number;
}

function toClaimed(row: OperationRow): Claimed {
  return {
    id: row.id,
    type: row.type,
    project: row.project,
    input: JSON.parse(row.input) as Json,
    target: { kind: row.target_kind, id: row.target_id, name: row.target_name },
    createdAt: row.created_at,
    attempt: row.attempt,
  };
}

function toJournal(steps: readonly OperationStepRow[]): Journal {
  return new Map(
    steps.map((step) => [
      step.name,
      {
        status: step.status as "running" | "succeeded" | "failed" | "undone",
        result: step.result === null ? null : (JSON.parse(step.result) as Json),
        failures: step.failures,
      },
    ]),
  );
}

/** The error of an ending, as it was when it was decided. */
export function toError(problem: Problem): BerthError {
  const code = problem.code in errorCatalogue ? (problem.code as ErrorCode) : "internal";
  return new BerthError(code, problem.detail, {
    ...(problem.errors ? { errors: problem.errors } : {}),
    ...(problem.operationId ? { operationId: problem.operationId } : {}),
  });
}

/** What one worker writes of the operation it has claimed. Every write checks the fence in its own transaction, and rejects with a FencedError when the operation is lost. */
export class OperationJournal {
  readonly #store: Store;
  readonly #lease: Lease;

  constructor(store: Store, lease: Lease) {
    this.#store = store;
    this.#lease = lease;
  }

  /** Reads how things stand. */
  async read(): Promise<OperationState> {
    const { queries } = this.#store;
    const row = await queries.selectFrom("operation").selectAll().where("id", "=", this.#lease.id).executeTakeFirst();
    if (row?.fence !== this.#lease.fence || row.ended_at !== null) throw new FencedError(this.#lease);
    const steps = await readSteps(queries, [row.id]);
    return {
      claimed: toClaimed(row),
      steps,
      journal: toJournal(steps),
      cancelRequested: row.cancel_requested === 1,
      ending: row.ending === null ? null : readJson(Ending, row.ending, "operation.ending"),
      failures: row.failures,
      wakes: row.wakes,
      now: await readClock(queries),
    };
  }

  /** A transaction that begins with changing the operation, and is given up when it is no longer ours. */
  async #write<T>(
    change: Partial<OperationRow> | { readonly [column: string]: unknown },
    then: (tx: Transaction, row: OperationRow) => Promise<T>,
    before?: (tx: Transaction) => Promise<void>,
  ): Promise<T> {
    return this.#store.transaction(async (tx) => {
      await before?.(tx);
      const row = await tx
        .updateTable("operation")
        .set(change as Partial<OperationRow>)
        .where("id", "=", this.#lease.id)
        .where("fence", "=", this.#lease.fence)
        .where("ended_at", "is", null)
        .where("lease_until", ">", 0)
        .returningAll()
        .executeTakeFirst();
      if (!row) throw new FencedError(this.#lease);
      wakeAfter(tx, operationTopic(row.id));
      return then(tx, row);
    });
  }

  /** Notes that a step begins. */
  async beginStep(name: string): Promise<void> {
    await this.#write({ reason: "" }, async (tx, row) => {
      const begun = { status: "running", started_at: now, ended_at: null, percent: null, detail: null };
      const position = sql<number>`(select coalesce(max(position), 0) + 1 from operation_step where operation_id = ${row.id})`;
      await tx
        .insertInto("operation_step")
        .values({ operation_id: row.id, name, position, failures: 0, undo_failures: 0, ...begun })
        .onConflict((conflict) => conflict.columns(["operation_id", "name"]).doUpdateSet({ position, ...begun }))
        .execute();
    });
  }

  /** Marks a step done, with what it leaves, all or nothing. */
  async endStep(name: string, outcome: StepOutcome | undefined): Promise<void> {
    const end = { status: "succeeded", ended_at: now, failures: 0, result: JSON.stringify(outcome?.result ?? null) };
    await this.#write({ failures: 0, reason: "" }, async (tx) => {
      await this.#setStep(tx, name, end);
      await outcome?.write?.(tx);
    });
  }

  /** Notes that a step failed for a passing cause, and gives the operation back until `delayMs` have passed. */
  async retryStep(name: string, failures: number, detail: string, delayMs: number): Promise<void> {
    const reason = `${name} failed and is tried again: ${detail}`;
    await this.#write({ ...givenBack(delayMs), reason }, async (tx) => {
      await this.#setStep(tx, name, { status: "failed", ended_at: now, failures, detail });
    });
  }

  /** Gives the operation back after something beside its steps failed. */
  async retry(failures: number, reason: string, delayMs: number): Promise<void> {
    await this.#write({ ...givenBack(delayMs), failures, reason }, async () => undefined);
  }

  /** Gives the operation back so that it can go on at once, on the next start or elsewhere. */
  async release(): Promise<void> {
    await this.#write(givenBack(0), async (tx) => wakeAfter(tx, workTopic));
  }

  /** Lets the operation sleep. It is due at once when it was woken since `wakes`, or what it waits for has ended. */
  async sleep(until: number, reason: string, wakes: number, waitsFor: string | undefined): Promise<void> {
    const due = sql<number>`case when wakes <> ${wakes} then berth_now() else ${until} end`;
    const change = { due_at: due, lease_until: 0, lease_owner: null, waiting: 1, waits_for: waitsFor ?? null, reason };
    await this.#write(change, async (tx, row) => {
      wakeAfter(tx, workTopic);
      if (waitsFor === undefined) return;
      const other = await tx
        .selectFrom("operation")
        .select("ended_at")
        .where("id", "=", waitsFor)
        // Its end waits until this is committed, and then wakes us; or this waits for it, and sees it.
        .$if(isPostgres(tx), (query) => query.forShare())
        .executeTakeFirst();
      if (other && other.ended_at === null) return;
      await tx.updateTable("operation").set({ due_at: now }).where("id", "=", row.id).execute();
    });
  }

  /** Decides that the operation fails or is cancelled; from now on what it began is undone, also after a crash. */
  async setEnding(ending: Ending, failedStep?: string): Promise<void> {
    await this.#write({ ending: JSON.stringify(ending), failures: 0 }, async (tx, row) => {
      if (failedStep)
        await this.#setStep(tx, failedStep, { status: "failed", ended_at: now, detail: ending.problem.detail });
      await tx
        .updateTable("operation_step")
        .set({ status: "failed", ended_at: now })
        .where("operation_id", "=", row.id)
        .where("status", "=", "running")
        .execute();
    });
  }

  /** Marks a step undone. */
  async endUndo(name: string): Promise<void> {
    await this.#write({ failures: 0 }, (tx) => this.#setStep(tx, name, { status: "undone", ended_at: now }));
  }

  /** Notes that undoing a step failed. `delayMs` until it is tried again; without it the step is left as it is, and an event says so. */
  async failUndo(name: string, failures: number, detail: string, delayMs: number | undefined): Promise<void> {
    const reason = `taking back ${name} failed: ${detail}`;
    const change = delayMs === undefined ? { reason } : { ...givenBack(delayMs), reason };
    await this.#write(change, async (tx, row) => {
      await this.#setStep(tx, name, { undo_failures: failures, detail: `could not be taken back: ${detail}` });
      if (delayMs === undefined) appendOperationEvent(tx, row, "operation.undo_failed", { step: name });
    });
  }

  /** Ends the operation: its last word, the rows `settle` writes with it, its resources to whoever waits for them, all at once. */
  async settle(outcome: Outcome, settle: (tx: Transaction, operation: Claimed) => Promise<void>): Promise<void> {
    const end =
      outcome.status === "succeeded"
        ? { status: outcome.status, result: JSON.stringify(outcome.result) }
        : { status: outcome.status, error: JSON.stringify(toProblem(outcome.error)) };
    // A step may have claimed nothing more, so what it has can be read first; the locks come before the row, as in `startOperation`.
    const resources = await readOwnResources(this.#store.queries, this.#lease.id);
    await this.#write(
      { ...end, reason: "" },
      async (tx, row) => {
        await settle(tx, toClaimed(row));
        await tx
          .updateTable("operation")
          .set({ ended_at: now, lease_until: 0, lease_owner: null, ending: null })
          .where("id", "=", row.id)
          .execute();
        await passOnClaims(tx, row.id, resources);
        await tx
          .updateTable("operation")
          .set((eb) => ({ wakes: eb("wakes", "+", 1), due_at: now }))
          .where("waits_for", "=", row.id)
          .execute();
        const data =
          outcome.status === "succeeded" ? {} : { error: { code: outcome.error.code, detail: outcome.error.message } };
        appendOperationEvent(tx, row, `operation.${outcome.status}`, data);
        wakeAfter(tx, workTopic);
      },
      (tx) => lockResources(tx, resources),
    );
  }

  async #setStep(tx: Transaction, name: string, change: { readonly [column: string]: unknown }): Promise<void> {
    await tx
      .updateTable("operation_step")
      .set(change as Partial<OperationStepRow>)
      .where("operation_id", "=", this.#lease.id)
      .where("name", "=", name)
      .execute();
  }
}

const now = sql<number>`berth_now()`;

/** An operation without a worker, to be claimed again after `delayMs`. */
function givenBack(delayMs: number) {
  return { lease_until: 0, lease_owner: null, due_at: sql<number>`berth_now() + ${delayMs}` };
}
