import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import type { Benchmark, Finding } from "../bench/support/benchmark.ts";
import { describeMachine } from "../bench/support/machine.ts";
import { describeFinding, performancePage } from "../bench/support/report.ts";
import { claimPort } from "../test/support/claim-port.ts";
import { removeTablesOf } from "../test/support/firewall-tables.ts";
import { ensureGuestKit } from "./support/guest-kit.ts";
import { repositoryRoot } from "./support/parts.ts";

// `npm run bench`: every file of bench/, or those named: `npm run bench -- api-get`. A full run writes docs/performance.md.
const folder = join(repositoryRoot, "bench");
const all = readdirSync(folder).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
const wanted = process.argv.slice(2);
const files = all.filter((name) => wanted.length === 0 || wanted.includes(basename(name, ".ts")));
if (files.length === 0) {
  console.error(`There is no such benchmark; there are ${all.map((name) => basename(name, ".ts")).join(", ")}.`);
  process.exit(1);
}

await ensureGuestKit();
const results: { benchmark: Benchmark; findings: readonly Finding[] }[] = [];
for (const file of files) {
  const { default: benchmark } = (await import(join(folder, file))) as { default: Benchmark };
  console.log(`\n${benchmark.name}`);
  const findings = await measure(benchmark);
  for (const finding of findings)
    console.log([describeFinding(finding), ...finding.details].join("\n").replace(/^/gm, "  "));
  results.push({ benchmark, findings });
}

if (wanted.length === 0) {
  const page = performancePage(describeMachine(), new Date(), results);
  writeFileSync(join(repositoryRoot, "docs/performance.md"), page);
  console.log("\ndocs/performance.md is written.");
}
if (results.some(({ findings }) => findings.some((one) => one.verdict === "missed"))) process.exitCode = 1;

async function measure(benchmark: Benchmark): Promise<readonly Finding[]> {
  const scratch = mkdtempSync(join(tmpdir(), "berth-bench-"));
  // The users that builds and guests run as must pass through.
  chmodSync(scratch, 0o711);
  try {
    return await benchmark.run({
      scratch,
      freePort: () => claimPort(join(scratch, "ports")),
      say: (line) => console.log(`  ${line}`),
    });
  } finally {
    removeTablesOf(scratch);
    rmSync(scratch, { recursive: true, force: true, maxRetries: 5 });
  }
}
