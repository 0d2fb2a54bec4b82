import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import type { Benchmark, Finding } from "../bench/support/benchmark.ts";
import { lazyLibvirt } from "../bench/support/libvirt.ts";
import { describeMachine } from "../bench/support/machine.ts";
import { benchmarkNames, loadBenchmark, performanceFiles, resultPath } from "../bench/support/performance-files.ts";
import { describeFinding } from "../bench/support/report.ts";
import { writeResult } from "../bench/support/results.ts";
import { claimPort } from "../test/support/claim-port.ts";
import { removeTablesOf } from "../test/support/firewall-tables.ts";
import { runPurge } from "../test/support/purge.ts";
import { ensureGuestKit } from "./support/guest-kit.ts";
import { repositoryRoot } from "./support/parts.ts";

// `npm run bench`: every file of bench/, or those named: `npm run bench -- api-get`. What each measured is kept in bench/results, and docs/performance.md and its chart are made of what
// is there. With `--try` everything is done once or twice and with few machines: it shows that the benchmarks work, its figures mean nothing, and nothing is kept.
const options = { try: { type: "boolean", default: false }, help: { type: "boolean", default: false } } as const;
const { values: asked, positionals: wanted } = parseArgs({ options, allowPositionals: true, strict: false });
const all = benchmarkNames();
const unknown = [
  ...wanted.filter((name) => !all.includes(name)),
  ...Object.keys(asked).filter((name) => !(name in options)),
];
if (asked.help || unknown.length > 0) {
  for (const name of unknown) console.error(`There is no ${name}.`);
  console.log(`npm run bench -- [--try] [NAME…]: measures all, or those named: ${all.join(", ")}.`);
  process.exit(asked.help ? 0 : 1);
}
const names = wanted.length === 0 ? all : all.filter((name) => wanted.includes(name));

await ensureGuestKit();
const say = (line: string) => console.log(`  ${line}`);
await using libvirt = lazyLibvirt(say);
let scratch = "";
/** Becomes a promise that never ends when the person waiting has enough. */
let ending: Promise<never> | undefined;
for (const signal of ["SIGINT", "SIGTERM"])
  process.once(signal, () => {
    console.log("Stopping; what was made is removed.");
    ending = end();
  });

const measured: Finding[] = [];
const failed: string[] = [];
for (const name of names) {
  const benchmark = await loadBenchmark(name);
  console.log(`\n${benchmark.name}`);
  try {
    const findings = await measure(benchmark);
    measured.push(...findings);
    if (!asked.try) {
      const result = { measuredAt: new Date().toISOString(), machine: describeMachine(), findings };
      writeResult(resultPath(name), result);
      for (const [path, content] of Object.entries(await performanceFiles()))
        writeFileSync(join(repositoryRoot, path), content);
    }
    for (const finding of findings)
      console.log([describeFinding(finding), ...finding.details].join("\n").replace(/^/gm, "  "));
  } catch (error) {
    if (ending) await ending;
    // The others can be measured all the same.
    console.error(error);
    failed.push(benchmark.name);
  }
}

if (names.length > 1) console.log(`\n${measured.map(describeFinding).join("\n")}`);
if (failed.length > 0) console.error(`\nCould not be measured: ${failed.join(", ")}.`);
if (!asked.try) console.log("\ndocs/performance.md and docs/performance.svg are written.");
const isMissed = measured.some(({ verdict }) => verdict === "missed");
if (failed.length > 0 || (isMissed && !asked.try)) process.exitCode = 1;

async function measure(benchmark: Benchmark): Promise<readonly Finding[]> {
  scratch = mkdtempSync(join(tmpdir(), "berth-bench-"));
  // The users that builds and guests run as must pass through.
  chmodSync(scratch, 0o711);
  try {
    const freePort = () => claimPort(join(scratch, "ports"));
    const times = (count: number) => (asked.try ? Math.min(count, 2) : count);
    return await benchmark.run({ scratch, freePort, libvirt: libvirt.get, times, say });
  } catch (error) {
    const log = join(scratch, "data.log");
    if (existsSync(log)) console.error(`What berthd said last:\n${readFileSync(log, "utf8").slice(-4000)}`);
    throw error;
  } finally {
    if (!ending) removeScratch();
  }
}

function removeScratch(): void {
  removeTablesOf(scratch);
  rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
}

/** Ends what a benchmark that is cut off has started, removes what it made, and ends. */
async function end(): Promise<never> {
  try {
    await libvirt[Symbol.asyncDispose]();
    // What is no data folder of a berthd's, purge refuses.
    for (const name of scratch ? readdirSync(scratch) : [])
      if (existsSync(join(scratch, name, "lock"))) await runPurge(join(scratch, name));
    if (scratch) removeScratch();
  } finally {
    process.exit(130);
  }
}
