import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { repositoryRoot } from "./parts.ts";

/** How many tests passed, failed and were skipped, and which failed why. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** `file › test` and the beginning of what it said, for each failure known by name. */
  readonly failures: readonly string[];
}

/** What of Vitest's JSON report is counted. */
export interface VitestReport {
  readonly testResults: readonly {
    /** The file's absolute path. */
    readonly name: string;
    readonly status: string;
    /** Why the file itself failed. */
    readonly message: string;
    readonly assertionResults: readonly {
      readonly status: string;
      readonly fullName: string;
      readonly failureMessages?: readonly string[] | undefined;
    }[];
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
  let tally: Tally = { passed: 0, failed: 0, skipped: 0, failures: [] };
  try {
    tally = countReport(JSON.parse(readFileSync(path, "utf8")) as VitestReport);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  return !ok && tally.failed === 0
    ? { ...tally, failed: 1, failures: [`${basename(path, ".json")}: the run itself, though no test`] }
    : tally;
}

/** A file that could not be loaded has no tests and counts as one failure. */
export function countReport(report: VitestReport): Tally {
  const results = report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = relative(repositoryRoot, name);
    const tests = assertionResults.map((one) => ({
      status: one.status,
      what: `${file} › ${one.fullName}`,
      why: one.failureMessages?.join("\n") ?? "",
    }));
    const ofItself = status === "failed" && !tests.some((one) => one.status === "failed");
    return ofItself ? [{ status, what: file, why: message }, ...tests] : tests;
  });
  const failed = results.filter(({ status }) => status === "failed");
  const passed = results.filter(({ status }) => status === "passed").length;
  return {
    passed,
    failed: failed.length,
    skipped: results.length - passed - failed.length,
    failures: failed.map(({ what, why }) => `${what}\n${beginningOf(why)}`.trimEnd()),
  };
}

/** The first lines of an error, indented. */
function beginningOf(error: string): string {
  return stripVTControlCharacters(error)
    .trim()
    .split("\n")
    .slice(0, 12)
    .join("\n")
    .replace(/^(?=.)/gm, "    ");
}

export function addTallies(tallies: readonly Tally[]): Tally {
  const sum = (key: "passed" | "failed" | "skipped") => tallies.reduce((total, one) => total + one[key], 0);
  return {
    passed: sum("passed"),
    failed: sum("failed"),
    skipped: sum("skipped"),
    failures: tallies.flatMap(({ failures }) => failures),
  };
}

/** The plain closing line. */
export function describeTally({ passed, failed, skipped }: Omit<Tally, "failures">): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}
