import { conclude } from "./support/conclude.ts";
import { runMachineTests } from "./support/machine-tests.ts";

// `npm run test:long`: tests with real machines that take minutes each. Arguments are handed to Vitest.
conclude(performance.now(), [await runMachineTests("long", process.argv.slice(2))]);
