import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import type { Benchmark, Finding } from "../bench/support/benchmark.ts";
import { performanceChart } from "../bench/support/chart.ts";
import { lazyLibvirt } from "../bench/support/libvirt.ts";
import { describeMachine } from "../bench/support/machine.ts";
import { describeFinding, performancePage } from "../bench/support/report.ts";
import { claimPort } from "../test/support/claim-port.ts";
import { removeTablesOf } from "../test/support/firewall-tables.ts";
import { runPurge } from "../test/support/purge.ts";
import { ensureGuestKit } from "./support/guest-kit.ts";
import { repositoryRoot } from "./support/parts.ts";

// `npm run bench`: every file of bench/, or those named: `npm run bench -- api-get`. A full run writes docs/performance.md and its chart. With `--try` everything is done once or
// twice and with few machines: it shows that the benchmarks work, and its figures mean nothing.
const options = { try: { type: "boolean", default: false } } as const;
const { values: asked, positionals: wanted } = parseArgs({ options, allowPositionals: true });
const folder = join(repositoryRoot, "bench");
const all = readdirSync(folder).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
const files = all.filter((name) => wanted.length === 0 || wanted.includes(basename(name, ".ts")));
if (files.length === 0) {
  console.error(`There is no such benchmark; there are ${all.map((name) => basename(name, ".ts")).join(", ")}.`);
  process.exit(1);
}

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

const results: { benchmark: Benchmark; findings: readonly Finding[] }[] = [];
const failed: string[] = [];
for (const file of files) {
  const { default: benchmark } = (await import(join(folder, file))) as { default: Benchmark };
  console.log(`\n${benchmark.name}`);
  try {
    const findings = await measure(benchmark);
    results.push({ benchmark, findings });
    for (const finding of findings)
      console.log([describeFinding(finding), ...finding.details].join("\n").replace(/^/gm, "  "));
  } catch (error) {
    if (ending) await ending;
    // The others can be measured all the same.
    console.error(error);
    failed.push(benchmark.name);
  }
}

if (results.length > 1) {
  const lines = results.flatMap(({ findings }) => findings.map(describeFinding));
  console.log(`\n${lines.join("\n")}`);
}
if (failed.length > 0) console.error(`\nCould not be measured: ${failed.join(", ")}.`);
else if (wanted.length === 0 && !asked.try) {
  const page = performancePage(describeMachine(), new Date(), results);
  writeFileSync(join(repositoryRoot, "docs/performance.md"), page);
  const chart = performanceChart(results.flatMap(({ findings }) => findings));
  writeFileSync(join(repositoryRoot, "docs/performance.svg"), chart);
  console.log("\ndocs/performance.md and docs/performance.svg are written.");
}
const isMissed = results.some(({ findings }) => findings.some(({ verdict }) => verdict === "missed"));
if (failed.length > 0 || (isMissed && !asked.try)) process.exitCode = 1;

async function measure(benchmark: Benchmark): Promise<readonly Finding[]> {
  scratch = mkdtempSync(join(tmpdir(), "berth-bench-"));
  // The users that builds and guests run as must pass through.
  chmodSync(scratch, 0o711);
  try {
    const freePort = () => claimPort(join(scratch, "ports"));
    const times = (count: number) => (asked.try ? Math.min(count, 2) : count);
    return await benchmark.run({ scratch, freePort, libvirt: libvirt.get, times, say });
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
    const dataDir = join(scratch, "data");
    if (existsSync(dataDir)) await runPurge(dataDir);
    if (scratch) removeScratch();
  } finally {
    process.exit(130);
  }
}
