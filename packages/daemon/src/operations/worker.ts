import { BerthError, toProblem } from "@berth/api";
import { ProgramError } from "../host/host.ts";
import { backoffMs, type RetryPolicy } from "./backoff.ts";
import type { Lease } from "./claim.ts";
import { type FaultPoints, faultNames } from "./fault.ts";
import { type Ending, FencedError, type OperationJournal, type OperationState, toError } from "./journal.ts";
import type { Reporter } from "./reporter.ts";
import type { Decision, Json, Outcome, Step, StepContext, Workflow } from "./workflow.ts";

/** Where the engine tells what a person who looks after the daemon may want to know. */
export interface EngineLog {
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** More steps than this in one go are a workflow that never comes to its end. */
const maxStepsInOneGo = 1000;

/** What a worker needs to carry one claimed operation as far as it goes now. */
export interface Work {
  readonly lease: Lease;
  readonly workflow: Workflow;
  readonly journal: OperationJournal;
  readonly reporter: Reporter;
  readonly retry: RetryPolicy;
  readonly faults: FaultPoints;
  readonly log: EngineLog;
  /** Aborted when the operation is to be cancelled. */
  readonly cancel: AbortSignal;
  /** Aborted when the lease is lost or the daemon shuts down: nothing more is done, not even undoing. */
  readonly stop: AbortSignal;
}

/** What the worker does after one look: look again, or leave the operation to whoever claims it next, if anybody. */
type Next = "again" | "left";

/** Inspects, decides and acts until the operation has ended, sleeps, waits for another try, or is lost. */
export async function runOperation(work: Work): Promise<void> {
  for (let turn = 0; ; turn++) {
    const state = await work.journal.read();
    if (work.stop.aborted) return work.journal.release();
    const next = state.ending ? await takeBack(work, state, state.ending) : await advance(work, state, turn);
    if (next === "left") return;
  }
}

async function advance(work: Work, state: OperationState, turn: number): Promise<Next> {
  if (state.cancelRequested) {
    const problem = toProblem(new BerthError("cancelled", `${state.claimed.type} was cancelled.`));
    return setEnding(work, { status: "cancelled", problem, kept: false, result: null });
  }
  if (turn >= maxStepsInOneGo)
    return setEnding(work, failure(new BerthError("internal", "It does not come to an end.")));
  const decision = await decide(work, state);
  if (decision === "again" || decision === "left") return decision;
  if ("run" in decision) return runStep(work, state, decision.run);
  if ("fail" in decision) return setEnding(work, failure(decision.fail, decision.keep, decision.result));
  if ("done" in decision) return settle(work, state, { status: "succeeded", result: decision.result ?? null });
  await work.journal.sleep(Math.ceil(decision.waitUntil), decision.reason, state.wakes, decision.operationId);
  return "left";
}

/** Looks at the world and asks the workflow. A look that fails is tried again; a BerthError is final, and so is any error of the deciding. */
async function decide(work: Work, state: OperationState): Promise<Decision | Next> {
  const { workflow, cancel, stop, retry } = work;
  let observed: unknown;
  try {
    observed = await workflow.inspect(state.claimed, AbortSignal.any([cancel, stop]));
  } catch (error) {
    if (cancel.aborted || stop.aborted) return "again";
    const failures = state.failures + 1;
    const final = (error instanceof BerthError && !isTransient(error)) || failures >= retry.limit;
    if (final) return setEnding(work, failure(explain(work, error)));
    return tryAgain(work, failures, "looking at it failed", error);
  }
  try {
    const { claimed: operation, journal, now } = state;
    return workflow.decide({ operation, observed, journal, now });
  } catch (error) {
    return setEnding(work, failure(explain(work, error)));
  }
}

async function runStep(work: Work, state: OperationState, name: string): Promise<Next> {
  const { workflow, journal, reporter, faults, cancel, stop, retry } = work;
  const step = workflow.steps.find((one) => one.name === name);
  if (!step) return setEnding(work, failure(new BerthError("internal", `${workflow.type} has no step ${name}.`)));
  const signal = AbortSignal.any([cancel, stop]);
  await journal.beginStep(name);
  try {
    await faults.pass(faultNames.run(workflow.type, name, "before"), signal);
    const outcome = await step.run(contextOf(work, state, step, signal));
    await faults.pass(faultNames.run(workflow.type, name, "after"), signal);
    await reporter.flush();
    await journal.endStep(name, outcome);
    return "again";
  } catch (error) {
    if (error instanceof FencedError) throw error;
    await reporter.flush();
    if (cancel.aborted || stop.aborted) return "again";
    const failures = (state.journal.get(name)?.failures ?? 0) + 1;
    if (!isTransient(error) || failures >= retry.limit) return setEnding(work, failure(explain(work, error)), name);
    work.log.warn({ operation: work.lease.id, step: name, failures, err: error }, "a step failed and is tried again");
    await journal.retryStep(name, failures, wordsOf(error), backoffMs(retry, failures, Math.random()));
    return "left";
  }
}

function contextOf(work: Work, state: OperationState, step: Step, signal: AbortSignal): StepContext {
  const { reporter } = work;
  return {
    operation: state.claimed,
    journal: state.journal,
    signal,
    progress: (percent, detail) => reporter.progress(step.name, percent, detail),
    log: (line) => reporter.log(line),
  };
}

/** Undoes the step that began last and is not undone yet; settles when there is none. */
async function takeBack(work: Work, state: OperationState, ending: Ending): Promise<Next> {
  const { workflow, journal, reporter, faults, stop, retry } = work;
  const begun = ending.kept ? [] : state.steps.filter((step) => step.status !== "undone" && !isLeft(step, retry));
  for (const row of begun.toReversed()) {
    const step = workflow.steps.find((one) => one.name === row.name);
    if (!step?.undo) continue;
    try {
      await faults.pass(faultNames.undo(workflow.type, step.name, "before"), stop);
      await step.undo(contextOf(work, state, step, stop));
      await faults.pass(faultNames.undo(workflow.type, step.name, "after"), stop);
      await reporter.flush();
      await journal.endUndo(step.name);
      return "again";
    } catch (error) {
      if (error instanceof FencedError) throw error;
      if (stop.aborted) return "again";
      const failures = row.undo_failures + 1;
      const last = failures >= retry.limit;
      const facts = { operation: work.lease.id, step: step.name, failures, err: error };
      if (last) work.log.error(facts, "a step could not be undone; what it made may be left behind");
      else work.log.warn(facts, "undoing a step failed and is tried again");
      await journal.failUndo(
        step.name,
        failures,
        wordsOf(error),
        last ? undefined : backoffMs(retry, failures, Math.random()),
      );
      return last ? "again" : "left";
    }
  }
  const { status, kept, result } = ending;
  const leftBehind = state.steps.filter((step) => isLeft(step, retry)).map(({ name }) => name);
  return settle(work, state, { status, error: toError(ending.problem), kept, leftBehind, result });
}

/** Whether undoing a step was tried often enough. */
function isLeft(step: OperationState["steps"][number], { limit }: RetryPolicy): boolean {
  return step.status !== "undone" && step.undo_failures >= limit;
}

/** Marks the end. An error of the workflow's own `settle` is tried again for as long as it takes: rows that do not fit the world help nobody. */
async function settle(work: Work, state: OperationState, outcome: Outcome): Promise<Next> {
  const { workflow, journal, faults, stop } = work;
  try {
    await faults.pass(faultNames.settle(workflow.type, "before"), stop);
    await journal.settle(outcome, async (tx, operation) => workflow.settle?.(tx, operation, outcome));
    await faults.pass(faultNames.settle(workflow.type, "after"), stop);
    return "left";
  } catch (error) {
    if (error instanceof FencedError) throw error;
    if (stop.aborted) return "again";
    work.log.error({ operation: work.lease.id, err: error }, "an operation cannot be settled; it is tried again");
    return tryAgain(work, state.failures + 1, "writing its end failed", error);
  }
}

async function tryAgain(work: Work, failures: number, what: string, error: unknown): Promise<Next> {
  await work.journal.retry(
    failures,
    `${what} and is tried again: ${wordsOf(error)}`,
    backoffMs(work.retry, failures, Math.random()),
  );
  return "left";
}

async function setEnding(work: Work, ending: Ending, failedStep?: string): Promise<Next> {
  await work.journal.setEnding(ending, failedStep);
  return "again";
}

function failure(error: BerthError, keep?: true, result: Json = null): Ending {
  return { status: "failed", problem: toProblem(error), kept: keep === true, result };
}

function isTransient(error: unknown): boolean {
  return (error as { transient?: unknown } | null)?.transient === true;
}

/** What an error says to people while it is tried again. Only errors that are worded for them say it themselves. */
function wordsOf(error: unknown): string {
  return isTransient(error)
    ? (error as Error).message
    : (explainKnown(error)?.message ?? "an unexpected error; berthd's log has it");
}

/** The error an operation ends with. What nobody foresaw is kept in the daemon's log, and its words from clients. */
function explain(work: Work, error: unknown): BerthError {
  const known = explainKnown(error) ?? (isTransient(error) ? explainKnown((error as Error).cause) : undefined);
  if (known) return known;
  work.log.error({ operation: work.lease.id, err: error }, "an operation failed unexpectedly");
  if (isTransient(error)) return new BerthError("internal", (error as Error).message, { cause: error });
  return new BerthError("internal", "An unexpected error; berthd's log has it.", { cause: error });
}

function explainKnown(error: unknown): BerthError | undefined {
  if (error instanceof BerthError) return error;
  if (error instanceof ProgramError)
    return new BerthError(error.isDiskFull ? "disk_full" : "host_program_failed", error.message, { cause: error });
  const code = (error as { code?: unknown } | null)?.code;
  if (code === "ENOSPC")
    return new BerthError("disk_full", "Writing to the node's disk failed: no space is left.", { cause: error });
  return undefined;
}
