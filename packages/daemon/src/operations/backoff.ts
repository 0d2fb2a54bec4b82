/** How work that failed for a passing cause is tried again. */
export interface RetryPolicy {
  /** How many failures of one step end the trying. */
  readonly limit: number;
  /** The first pause; each further one is twice as long, in milliseconds. */
  readonly baseMs: number;
  /** The longest pause, in milliseconds. */
  readonly capMs: number;
}

export const defaultRetry: RetryPolicy = { limit: 8, baseMs: 250, capMs: 30_000 };

/** The pause after so many failures, at least half of its full length; `random` from 0 to 1 keeps those that failed together from returning together. */
export function backoffMs(policy: RetryPolicy, failures: number, random: number): number {
  const full = Math.min(policy.capMs, policy.baseMs * 2 ** Math.min(failures - 1, 30));
  return Math.round(full / 2 + (full / 2) * random);
}
