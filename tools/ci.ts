import { runChecks } from "./support/checks.ts";
import { conclude } from "./support/conclude.ts";
import { runMachineTests } from "./support/machine-tests.ts";

// `.ci/run`: what `npm test` runs and what `npm run test:long` runs, counted together.
const started = performance.now();
const checks = await runChecks();
const short = await runMachineTests("short");
conclude(started, [checks, short, await runMachineTests("long")]);
