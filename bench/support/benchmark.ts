import type { Libvirt } from "./libvirt.ts";
import type { Estimate, Verdict } from "./statistics.ts";

/** What a benchmark is given. */
export interface BenchmarkContext {
  /** A folder of its own, removed afterwards. */
  readonly scratch: string;
  /** A port of the loopback address for it alone. */
  freePort(): Promise<number>;
  /** A libvirt to be measured against; installed when it is first asked for. */
  libvirt(): Promise<Libvirt>;
  /** How often, or with how many machines, something is really done that is to be done so many times: less where it is only tried whether the benchmark works. */
  times(wanted: number): number;
  /** Tells the person waiting what is being done. */
  say(line: string): void;
}

/** What one promise came to. */
export interface Finding {
  /** What is promised: `GET of one instance: CPU time against a bare Fastify route`. */
  readonly promise: string;
  readonly estimate: Estimate;
  /** The most it may be, in the same unit. */
  readonly limit: number;
  readonly unit: "x" | "MiB" | "ms" | "machines";
  readonly verdict: Verdict;
  /** The figures behind it, a sentence each. */
  readonly details: readonly string[];
}

/** One file of bench/: its default export. */
export interface Benchmark {
  readonly name: string;
  /** How it is measured, for the reader of docs/performance.md. */
  readonly method: string;
  /** What was done for it and what that changed, a sentence each. */
  readonly tuned?: readonly string[];
  run(context: BenchmarkContext): Promise<readonly Finding[]>;
}
