import { nodePart, type Part, runParts } from "./parts.ts";
import { addTallies, reportPath, type Tally, tallyRun } from "./tally.ts";

/** What needs no machine: format, types, boundaries, dead code and the unit tests. The slowest come first, so that two at a time end together. */
function checks(unitReport: string): Part[] {
  return [
    vitestPart("unit tests", ["unit"], "dot", unitReport),
    nodePart("types", "ts7/bin/tsc", "-p", "."),
    nodePart(
      "arrows between rooms",
      "dependency-cruiser/bin/dependency-cruiser.mjs",
      "packages",
      "test",
      "tools",
      "bench",
    ),
    nodePart("dead code", "knip/bin/knip.js"),
    nodePart("format and lint", "@biomejs/biome/bin/biome", "check", "--error-on-warnings"),
  ];
}

/** Runs them all and counts each as a test, the unit tests one by one. */
export async function runChecks(): Promise<Tally> {
  const report = reportPath("unit");
  const results = await runParts(checks(report), 2);
  return addTallies(
    results.map(({ name, ok }) =>
      name === "unit tests"
        ? tallyRun(report, ok)
        : { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0, failures: ok ? [] : [name] },
    ),
  );
}

/** A run of Vitest that writes a report to count by; `extra` are names of files to run or further options. */
export function vitestPart(
  name: string,
  projects: readonly string[],
  reporter: "dot" | "default",
  report: string,
  extra: readonly string[] = [],
): Part {
  return nodePart(
    name,
    "vitest/vitest.mjs",
    "run",
    ...projects.map((project) => `--project=${project}`),
    `--reporter=${reporter}`,
    "--reporter=json",
    `--outputFile.json=${report}`,
    "--passWithNoTests",
    ...extra,
  );
}
