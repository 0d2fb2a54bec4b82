import { runChecks } from "./support/checks.ts";
import { describeTally } from "./support/tally.ts";

// `npm run check`: what needs no machine, in under a minute.
const tally = await runChecks();
console.log(describeTally(tally));
process.exitCode = tally.failed > 0 ? 1 : 0;
