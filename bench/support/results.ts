import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Finding } from "./benchmark.ts";

/** What one benchmark measured last, as it is kept in bench/results, so that each can be measured when its machine is quiet. */
export interface Result {
  /** RFC 3339, when it ended. */
  readonly measuredAt: string;
  /** What it was measured on, a line each. */
  readonly machine: readonly string[];
  readonly findings: readonly Finding[];
}

/** Undefined when it was never measured. */
export function readResult(path: string): Result | undefined {
  // Written by `writeResult` alone, and committed.
  return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as Result) : undefined;
}

export function writeResult(path: string, result: Result): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
}
