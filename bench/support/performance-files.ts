import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import type { Benchmark } from "./benchmark.ts";
import { performanceChart } from "./chart.ts";
import { performancePage } from "./report.ts";
import { type Result, readResult } from "./results.ts";

const folder = join(import.meta.dirname, "..");

/** The names of all benchmarks: those of the files in bench/. */
export function benchmarkNames(): readonly string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".ts"))
    .map((file) => basename(file, ".ts"))
    .sort();
}

export async function loadBenchmark(name: string): Promise<Benchmark> {
  const module = (await import(join(folder, `${name}.ts`))) as { default: Benchmark };
  return module.default;
}

/** Where what a benchmark measured last is kept. */
export function resultPath(name: string): string {
  return join(folder, "results", `${name}.json`);
}

/** docs/performance.md and its chart as they must be by what is kept in bench/results: path to content. */
export async function performanceFiles(): Promise<Readonly<Record<string, string>>> {
  const measured: { benchmark: Benchmark; result: Result }[] = [];
  for (const name of benchmarkNames()) {
    const result = readResult(resultPath(name));
    if (result) measured.push({ benchmark: await loadBenchmark(name), result });
  }
  return {
    "docs/performance.md": performancePage(measured),
    "docs/performance.svg": performanceChart(measured.flatMap(({ result }) => result.findings)),
  };
}
