import type { Finding } from "./benchmark.ts";
import { judge, median, ratio } from "./statistics.ts";

/** What is compared. */
export interface Compared {
  readonly promise: string;
  /** The most that ours may be of theirs. */
  readonly limit: number;
  /** Milliseconds, each pair measured right after one another. */
  readonly pairs: readonly (readonly [ours: number, theirs: number])[];
  /** What they are, in words. */
  readonly ours: string;
  readonly theirs: string;
}

/** Judges how long something takes by how long another thing takes. */
export function compare({ promise, limit, pairs, ours, theirs }: Compared): Finding {
  const estimate = ratio(pairs);
  const took = (side: 0 | 1) => inWords(median(pairs.map((pair) => pair[side])));
  const details = [`${took(0)} for ${ours}, ${took(1)} for ${theirs}.`];
  return { promise, estimate, limit, unit: "x", verdict: judge(estimate, limit), details };
}

function inWords(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}
