import { runChecks, vitestPart } from "./support/checks.ts";
import { ensureGuestKit } from "./support/guest-kit.ts";
import { runInForeground } from "./support/parts.ts";
import { addTallies, describeTally, reportPath, tallyRun } from "./support/tally.ts";

// `npm test`: everything, with real programs and machines. Arguments are handed to Vitest: `npm test -- packages/daemon/src/images`.
const started = performance.now();
const checks = await runChecks();
await ensureGuestKit();
const report = reportPath("machine");
const code = await runInForeground(
  vitestPart("tests with real programs", ["host", "system"], "default", report, process.argv.slice(2)),
);
const tally = addTallies([checks, tallyRun(report, code === 0)]);
console.log(`\nEverything took ${((performance.now() - started) / 60_000).toFixed(1)} minutes.`);
console.log(describeTally(tally));
process.exitCode = tally.failed > 0 ? 1 : 0;
