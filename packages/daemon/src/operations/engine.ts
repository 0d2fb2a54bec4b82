import { sql } from "kysely";
import { type OperationRow, workTopic } from "../store/operations.ts";
import { wakeAfter } from "../store/pending.ts";
import type { Store } from "../store/store.ts";
import type { Subscription } from "../store/wake.ts";
import { backoffMs, defaultRetry, type RetryPolicy } from "./backoff.ts";
import { type Claimer, checkLeases, claimNext, releaseLeases, timeToNext } from "./claim.ts";
import { type FaultPoints, noFaults } from "./fault.ts";
import { FencedError, OperationJournal } from "./journal.ts";
import { Reporter } from "./reporter.ts";
import { type EngineLog, runOperation } from "./worker.ts";
import type { Workflow } from "./workflow.ts";

export interface EngineOptions {
  readonly store: Store;
  readonly workflows: readonly Workflow[];
  /** This daemon's stable node id: no two daemons run with the same one. */
  readonly nodeId: string;
  readonly log: EngineLog;
  /** How many operations run at once; those that sleep do not count. 8 when not given. */
  readonly slots?: number;
  /** How long another daemon waits before it takes over from one that is silent, in milliseconds; 15,000 when not given. */
  readonly leaseMs?: number;
  readonly retry?: RetryPolicy;
  readonly faults?: FaultPoints;
}

/** An operation that runs here now. */
interface Running {
  readonly fence: number;
  readonly cancel: AbortController;
  readonly lost: AbortController;
  /** Gives the operation up when its lease was not prolonged in time: somebody else may have it by then. */
  leaseEnd: NodeJS.Timeout;
  done: Promise<void>;
}

/** Carries out operations: claims those that are due, runs their workflows, keeps their leases, and hears of cancellations. It does not know what they are about. */
export class OperationEngine {
  readonly #store: Store;
  readonly #workflows: ReadonlyMap<string, Workflow>;
  readonly #claimer: Claimer;
  readonly #log: EngineLog;
  readonly #slots: number;
  readonly #retry: RetryPolicy;
  readonly #faults: FaultPoints;
  /** By id. One that was lost stays until its worker has ended, and is not claimed again before: nothing is done twice at once here. */
  readonly #running = new Map<string, Running>();
  #prolongedAt = 0;

  constructor(options: EngineOptions) {
    this.#store = options.store;
    this.#workflows = new Map(options.workflows.map((workflow) => [workflow.type, workflow]));
    this.#claimer = { nodeId: options.nodeId, types: [...this.#workflows.keys()], leaseMs: options.leaseMs ?? 15_000 };
    this.#log = options.log;
    this.#slots = options.slots ?? 8;
    this.#retry = options.retry ?? defaultRetry;
    this.#faults = options.faults ?? noFaults;
  }

  /** Works until aborted; resolves when what ran has been given back. Operations that a dead daemon of this node left behind go on at once. */
  async run(signal: AbortSignal): Promise<void> {
    using work = this.#store.wake.subscribe(workTopic);
    let failures = 0;
    let released = false;
    while (!signal.aborted) {
      try {
        if (!released) await releaseLeases(this.#store, this.#claimer.nodeId);
        released = true;
        await this.#look(work, signal);
        failures = 0;
        await work.wait(signal, await this.#idleMs());
      } catch (error) {
        failures += 1;
        this.#log.error({ err: error }, "the operations engine cannot reach its store; it tries again");
        await work.wait(signal, backoffMs(this.#retry, failures, Math.random()));
      }
    }
    await Promise.all([...this.#running.values()].map(({ done }) => done));
  }

  /** Lets the sleeping operations on this object look again now. */
  async wake(targetId: string): Promise<void> {
    await this.#store.transaction(async (tx) => {
      await tx
        .updateTable("operation")
        .set((eb) => ({
          wakes: eb("wakes", "+", 1),
          // One that waits after a failure keeps its pause.
          due_at: sql<number>`case when waiting = 1 then berth_now() else due_at end`,
        }))
        .where("target_id", "=", targetId)
        .where("ended_at", "is", null)
        .execute();
      wakeAfter(tx, workTopic);
    });
  }

  async #look(work: Subscription, signal: AbortSignal): Promise<void> {
    await this.#checkRunning();
    while (this.#running.size < this.#slots && !signal.aborted) {
      const row = await claimNext(this.#store, this.#claimer, [...this.#running.keys()]);
      if (!row) return;
      this.#launch(row, work, signal);
    }
  }

  /** How long nothing needs to be looked at, in milliseconds, unless there is a wake-up. */
  async #idleMs(): Promise<number> {
    const untilHeartbeat = this.#claimer.leaseMs / 3 - (performance.now() - this.#prolongedAt);
    const heartbeat = this.#running.size > 0 ? untilHeartbeat : Number.POSITIVE_INFINITY;
    if (this.#running.size >= this.#slots) return heartbeat;
    const next = await timeToNext(this.#store, this.#claimer, [...this.#running.keys()]);
    return Math.min(heartbeat, next ?? Number.POSITIVE_INFINITY);
  }

  /** Prolongs leases at a third of their length, and passes cancellations on. */
  async #checkRunning(): Promise<void> {
    const { leaseMs } = this.#claimer;
    const began = performance.now();
    const prolong = began - this.#prolongedAt >= leaseMs / 3;
    const leases = [...this.#running].map(([id, { fence }]) => ({ id, fence }));
    const states = await checkLeases(this.#store, leases, prolong ? leaseMs : undefined);
    if (prolong) this.#prolongedAt = began;
    for (const { id, fence } of leases) {
      const running = this.#running.get(id);
      if (running?.fence !== fence) continue;
      const state = states.get(id);
      if (state?.fence !== fence) running.lost.abort(new FencedError({ id, fence }));
      else if (state.cancelRequested)
        running.cancel.abort(new DOMException("the operation was cancelled", "AbortError"));
      if (prolong && state?.fence === fence) this.#expectUntil(id, running, began + leaseMs);
    }
  }

  #expectUntil(id: string, running: Running, end: number): void {
    clearTimeout(running.leaseEnd);
    running.leaseEnd = setTimeout(
      () => running.lost.abort(new FencedError({ id, fence: running.fence })),
      Math.max(0, end - performance.now()),
    );
  }

  #launch(row: OperationRow, work: Subscription, signal: AbortSignal): void {
    const workflow = this.#workflows.get(row.type);
    if (!workflow) return;
    const lease = { id: row.id, fence: row.fence };
    const running: Running = {
      fence: row.fence,
      cancel: new AbortController(),
      lost: new AbortController(),
      leaseEnd: setTimeout(() => running.lost.abort(new FencedError(lease)), this.#claimer.leaseMs),
      done: Promise.resolve(),
    };
    this.#running.set(row.id, running);
    running.done = runOperation({
      lease,
      workflow,
      journal: new OperationJournal(this.#store, lease),
      reporter: new Reporter(this.#store, lease, (error) => {
        this.#log.warn({ operation: row.id, err: error }, "progress or log lines of an operation could not be written");
      }),
      retry: this.#retry,
      faults: this.#faults,
      log: this.#log,
      cancel: running.cancel.signal,
      stop: AbortSignal.any([signal, running.lost.signal]),
    })
      .catch((error: unknown) => this.#giveUp(lease, error))
      .finally(() => {
        clearTimeout(running.leaseEnd);
        this.#running.delete(row.id);
        work.wake();
      });
  }

  /** A worker that could not go on: the operation was lost, or the store refused to be written. Whoever claims it next looks at the world again. */
  async #giveUp(lease: { id: string; fence: number }, error: unknown): Promise<void> {
    if (error instanceof FencedError) {
      this.#log.warn({ operation: lease.id }, "the operation was claimed by another worker");
      return;
    }
    this.#log.error({ operation: lease.id, err: error }, "the operation could not go on; it is tried again");
    const pause = backoffMs(this.#retry, 4, Math.random());
    const reason = "the store could not be written; it is tried again";
    // When even this cannot be written, the lease runs out by itself.
    await new OperationJournal(this.#store, lease).retry(0, reason, pause).catch(() => undefined);
  }
}
