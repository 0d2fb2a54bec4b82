import type { BerthError, OperationStep } from "@berth/api";
import type { Transaction } from "../store/store.ts";

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** One claimed operation, as its workflow sees it. */
export interface Claimed {
  readonly id: string;
  readonly type: string;
  readonly project: string;
  readonly input: Json;
  readonly target: { readonly kind: string; readonly id: string; readonly name: string };
  /** When it was asked for, milliseconds since the epoch on the store's clock. */
  readonly createdAt: number;
  /** How many times it has been claimed, this time included. */
  readonly attempt: number;
}

/** What each step left, by name: its status and, once it succeeded, its result. */
export type Journal = ReadonlyMap<
  string,
  { readonly status: OperationStep["status"]; readonly result: Json; readonly failures: number }
>;

/**
 * What to do next: pure data. `waitUntil` is a time in milliseconds since the epoch; the operation keeps its claims, gives up its slot, and is looked at
 * again then, or sooner when its target is woken (`engine.wake`) or the operation named by `operationId` ends.
 * `keep` fails the operation without undoing its steps: what was made stays for a person to look at. `result` is for `settle`.
 */
export type Decision =
  | { readonly run: string }
  | { readonly waitUntil: number; readonly reason: string; readonly operationId?: string }
  | { readonly done: true; readonly result?: Json }
  | { readonly fail: BerthError; readonly keep?: true; readonly result?: Json };

/** What a step may use. */
export interface StepContext {
  readonly operation: Claimed;
  readonly journal: Journal;
  /** Aborted when the operation is cancelled, its lease is lost, or the daemon shuts down. */
  readonly signal: AbortSignal;
  /** Shows progress; kept at most a few times a second. `percent` null when unknown. */
  progress(percent: number | null, detail: string): void;
  /** Appends a line to the operation's log, which is bounded. Never a secret. */
  log(line: string): void;
}

/** What a step leaves: a result for the journal, and rows or events written in the same transaction that marks it done. */
export interface StepOutcome {
  readonly result?: Json;
  readonly write?: (tx: Transaction) => Promise<void>;
}

/**
 * One repeatable action. It checks the world first and then acts, so that running it twice does no harm.
 * An error with `transient` true is tried again with backoff; any other fails the operation, and the steps that began are undone, last first.
 */
export interface Step {
  readonly name: string;
  run(context: StepContext): Promise<StepOutcome | undefined>;
  /** Takes back what `run` did, wholly or partly done; resolves when there is nothing to take back. */
  undo?(context: StepContext): Promise<void>;
}

/** How an operation ended. */
export type Outcome =
  | { readonly status: "succeeded"; readonly result: Json }
  | {
      readonly status: "failed" | "cancelled";
      readonly error: BerthError;
      /** Whether its steps were left as they are, by a decision to `keep`, instead of undone. */
      readonly kept: boolean;
      /** The steps that could not be undone however often it was tried: what they made may still be there, and has to be known to be removed. */
      readonly leftBehind: readonly string[];
      /** What the decision to fail came with; null for any other end. */
      readonly result: Json;
    };

/** The story an operation tells: inspect, decide, act, until done. */
export interface Workflow<Observation = unknown> {
  /** The operation's type: `instance.create`. */
  readonly type: string;
  /** Every step it may run: the engine puts a fault point before and after each. */
  readonly steps: readonly Step[];
  /** Looks at the world. */
  inspect(operation: Claimed, signal: AbortSignal): Promise<Observation>;
  /** Decides what to do next; pure. */
  decide(state: {
    readonly operation: Claimed;
    readonly observed: Observation;
    readonly journal: Journal;
    readonly now: number;
  }): Decision;
  /** Writes the rows and events that go with the end, in the transaction that marks it. */
  settle?(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void>;
}

/** Runs steps in their order, each once: the decision of a workflow that is a plain list. */
export function inOrder(steps: readonly Step[], journal: Journal, result?: Json): Decision {
  for (const step of steps) {
    if (journal.get(step.name)?.status !== "succeeded") return { run: step.name };
  }
  return { done: true, ...(result === undefined ? {} : { result }) };
}

/** Thrown by a step whose cause may pass by itself: tried again with backoff. */
export class TransientError extends Error {
  readonly transient = true;

  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "TransientError";
  }
}
