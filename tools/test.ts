import { runChecks } from "./support/checks.ts";
import { conclude } from "./support/conclude.ts";
import { runMachineTests } from "./support/machine-tests.ts";

// `npm test`: all but the longest tests, with real programs and machines. Arguments are handed to Vitest: `npm test -- packages/daemon/src/images`.
const started = performance.now();
const checks = await runChecks();
conclude(started, [checks, await runMachineTests("short", process.argv.slice(2))]);
