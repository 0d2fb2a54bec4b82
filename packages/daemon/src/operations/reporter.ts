import { readLog, writeLog } from "../store/operation-log.ts";
import { operationTopic } from "../store/operations.ts";
import { wakeAfter } from "../store/pending.ts";
import type { Store } from "../store/store.ts";
import type { Lease } from "./claim.ts";
import { cleanLine, defaultLogLimits, LogBounds, type LogLimits } from "./log-bounds.ts";

/** How often progress and log lines are written, in milliseconds. */
const flushMs = 250;

/** Writes what a running step has to say, a few times a second. What it says never fails the step. */
export class Reporter {
  readonly #store: Store;
  readonly #lease: Lease;
  readonly #limits: LogLimits;
  #bounds: LogBounds | undefined;
  #lines: { seq: number; line: string }[] = [];
  /** Lines said before it is known how many are kept already. */
  #unnumbered: string[] = [];
  #progress: { step: string; percent: number | null; detail: string } | undefined;
  #scheduled = false;
  /** Writes come one after the other. */
  #written = Promise.resolve();

  readonly #onError: (error: unknown) => void;

  constructor(store: Store, lease: Lease, onError: (error: unknown) => void, limits = defaultLogLimits) {
    this.#store = store;
    this.#lease = lease;
    this.#onError = onError;
    this.#limits = limits;
  }

  progress(step: string, percent: number | null, detail: string): void {
    const rounded = percent === null || Number.isNaN(percent) ? null : Math.round(Math.min(100, Math.max(0, percent)));
    this.#progress = { step, percent: rounded, detail: cleanLine(detail) };
    this.#scheduleFlush();
  }

  log(text: string): void {
    for (const part of text.split("\n")) {
      const line = cleanLine(part);
      if (this.#bounds) this.#number(this.#bounds, line);
      else this.#unnumbered.push(line);
    }
    this.#scheduleFlush();
  }

  #number(bounds: LogBounds, line: string): void {
    this.#lines.push({ seq: bounds.add(line), line });
    // A flood is thinned here, before it costs memory or writes.
    if (this.#lines.length > 2 * (this.#limits.head.lines + this.#limits.tail.lines)) this.#lines = this.#kept(bounds);
  }

  #kept(bounds: LogBounds): { seq: number; line: string }[] {
    const { after, to } = bounds.leftOut;
    return this.#lines.filter(({ seq }) => seq <= after || seq > to);
  }

  #scheduleFlush(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setTimeout(() => {
      this.#scheduled = false;
      void this.flush();
    }, flushMs);
  }

  /** Resolves when everything said so far is written, or could not be. */
  flush(): Promise<void> {
    this.#written = this.#written.then(() => this.#write()).catch((error: unknown) => this.#onError(error));
    return this.#written;
  }

  async #write(): Promise<void> {
    if (!this.#progress && this.#lines.length === 0 && this.#unnumbered.length === 0) return;
    this.#bounds ??= await this.#loadBounds();
    const bounds = this.#bounds;
    for (const line of this.#unnumbered.splice(0)) this.#number(bounds, line);
    const lines = this.#kept(bounds);
    const progress = this.#progress;
    this.#lines = [];
    this.#progress = undefined;
    if (lines.length === 0 && !progress) return;
    await this.#store.transaction(async (tx) => {
      const { id, fence } = this.#lease;
      const ours = await tx
        .selectFrom("operation")
        .select("id")
        .where("id", "=", id)
        .where("fence", "=", fence)
        .execute();
      if (ours.length === 0) return;
      await writeLog(tx, id, lines, bounds.leftOut);
      if (progress) {
        await tx
          .updateTable("operation_step")
          .set({ percent: progress.percent, detail: progress.detail })
          .where("operation_id", "=", id)
          .where("name", "=", progress.step)
          .execute();
      }
      wakeAfter(tx, operationTopic(id));
    });
  }

  /** Counts in what an earlier attempt has left. */
  async #loadBounds(): Promise<LogBounds> {
    const bounds = new LogBounds(this.#limits);
    const most = this.#limits.head.lines + this.#limits.tail.lines;
    for (const { seq, line } of await readLog(this.#store.queries, this.#lease.id, 0, most)) bounds.add(line, seq);
    return bounds;
  }
}
