/** A value with the interval that holds it with 95 % confidence. */
export interface Estimate {
  readonly median: number;
  readonly low: number;
  readonly high: number;
  /** How many values it was made from. */
  readonly count: number;
}

/** `kept` or `missed` only when the whole interval lies on one side of the limit. */
export type Verdict = "kept" | "missed" | "too close to tell";

export function median(values: readonly number[]): number {
  if (values.length === 0) throw new Error("there is no median of nothing");
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/**
 * The median with its interval by order statistics: the k-th smallest and k-th largest value hold the true median with the binomial probability of at least k of n
 * coin tosses falling either way. It assumes nothing of how the values are spread. With fewer than six values, smallest and largest hold less than 95 %.
 */
export function estimate(values: readonly number[]): Estimate {
  const sorted = [...values].sort((a, b) => a - b);
  const k = orderOf(sorted.length);
  return {
    median: median(sorted),
    low: sorted[k] ?? Number.NaN,
    high: sorted[sorted.length - 1 - k] ?? Number.NaN,
    count: sorted.length,
  };
}

/** The largest k (counted from 0) for which the chance that the median lies outside of [k-th smallest, k-th largest] is at most 5 %. */
function orderOf(count: number): number {
  let k = 0;
  let chance = 0.5 ** count;
  for (let below = chance; ; k++) {
    // `chance` is that of exactly k + 1 values below the median, from that of k.
    chance *= (count - k) / (k + 1);
    below += chance;
    if (below > 0.025) return k;
  }
}

/** Each pair was measured right after one another, so whatever slows the machine down slows both: the ratio is taken within pairs. */
export function ratio(pairs: readonly (readonly [ours: number, theirs: number])[]): Estimate {
  return estimate(pairs.map(([ours, theirs]) => ours / theirs));
}

/** Judges an estimate by the most it may be. */
export function judge({ low, high }: Estimate, limit: number): Verdict {
  if (high <= limit) return "kept";
  return low > limit ? "missed" : "too close to tell";
}

/** Measures both in turn, changing who is first, after one round that does not count. */
export async function interleave(
  rounds: number,
  ours: () => Promise<number>,
  theirs: () => Promise<number>,
): Promise<[ours: number, theirs: number][]> {
  const pairs: [number, number][] = [];
  for (let round = 0; round <= rounds; round++) {
    const theirsFirst = round % 2 === 0 ? await theirs() : undefined;
    const mine = await ours();
    const pair: [number, number] = [mine, theirsFirst ?? (await theirs())];
    if (round > 0) pairs.push(pair);
  }
  return pairs;
}
