import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { repositoryRoot } from "./parts.ts";

/** How many tests passed, failed and were skipped. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** What of Vitest's JSON report is counted. */
export interface VitestReport {
  readonly testResults: readonly {
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

/** Where Vitest is to write the report of a run; an older one is removed, so that none is mistaken for it. */
export function reportPath(run: string): string {
  const folder = join(repositoryRoot, ".tools/reports");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${run}.json`);
  rmSync(path, { force: true });
  return path;
}

/** Counts a report. A run that ended without writing one, or that failed although no test did (something was left behind), counts as one failure. */
export function tallyRun(path: string, ok: boolean): Tally {
  let tally: Tally = { passed: 0, failed: 0, skipped: 0 };
  try {
    tally = countReport(JSON.parse(readFileSync(path, "utf8")) as VitestReport);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return !ok && tally.failed === 0 ? { ...tally, failed: 1 } : tally;
}

/** A file that could not be loaded has no tests and counts as one failure. */
export function countReport(report: VitestReport): Tally {
  const statuses = report.testResults.flatMap((file) =>
    file.status === "failed" && !file.assertionResults.some((one) => one.status === "failed")
      ? ["failed", ...file.assertionResults.map((one) => one.status)]
      : file.assertionResults.map((one) => one.status),
  );
  const count = (...wanted: readonly string[]) => statuses.filter((status) => wanted.includes(status)).length;
  const passed = count("passed");
  const failed = count("failed");
  return { passed, failed, skipped: statuses.length - passed - failed };
}

export function addTallies(tallies: readonly Tally[]): Tally {
  const sum = (key: keyof Tally) => tallies.reduce((total, one) => total + one[key], 0);
  return { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
}

/** The plain closing line. */
export function describeTally({ passed, failed, skipped }: Tally): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
