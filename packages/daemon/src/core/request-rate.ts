/** What is left to somebody who sends requests. */
export interface RateState {
  /** Whether this request is within the rate. */
  readonly allowed: boolean;
  /** How many more may be sent at once. */
  readonly remaining: number;
  /** When another may be sent, and when all that may be sent at once may be again: in milliseconds from now. */
  readonly retryMs: number;
  readonly resetMs: number;
}

/** Those who sent nothing for so long that they are at full strength are forgotten, once there are so many. */
const maxKnown = 10_000;

/**
 * Holds each sender to a rate, with so many at once: the generic cell rate algorithm (ITU-T I.371), which keeps one number for each, the time up to which he has used what
 * was his. It costs less than a microsecond and no promise, since every request pays it.
 */
export class RequestRate {
  // Whole microseconds: sums of fractions are off by so little that the last request of a burst would be refused now and then.
  readonly #interval: number;
  readonly #tolerance: number;
  readonly #usedUntil = new Map<string, number>();

  /** `perSecond` above zero; `burst` at least 1. */
  constructor(perSecond: number, burst: number) {
    this.#interval = Math.round(1e6 / perSecond);
    this.#tolerance = this.#interval * burst;
  }

  /** Counts a request of `sender` at `nowMs`, in milliseconds of any clock; one that is not allowed is not counted. */
  take(sender: string, nowMs: number): RateState {
    const now = Math.floor(nowMs * 1000);
    const usedUntil = Math.max(this.#usedUntil.get(sender) ?? 0, now) + this.#interval;
    const left = this.#tolerance - (usedUntil - now);
    if (left < 0)
      return {
        allowed: false,
        remaining: 0,
        retryMs: -left / 1000,
        resetMs: (usedUntil - this.#interval - now) / 1000,
      };
    if (this.#usedUntil.size >= maxKnown) this.#forget(now);
    this.#usedUntil.set(sender, usedUntil);
    return {
      allowed: true,
      remaining: Math.floor(left / this.#interval),
      retryMs: 0,
      resetMs: (usedUntil - now) / 1000,
    };
  }

  #forget(now: number): void {
    for (const [sender, usedUntil] of this.#usedUntil) if (usedUntil <= now) this.#usedUntil.delete(sender);
    // As many as that within their burst are an attack from many addresses: memory comes before justice.
    if (this.#usedUntil.size >= maxKnown) this.#usedUntil.clear();
  }
}
