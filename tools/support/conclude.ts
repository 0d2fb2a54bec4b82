import { addTallies, describeTally, type Tally } from "./tally.ts";

/** Names what failed, says how long all took and what came of it, in the last line, and has the process end accordingly. */
export function conclude(started: number, tallies: readonly Tally[]): void {
  const tally = addTallies(tallies);
  if (tally.failures.length > 0) console.log(`\nWhat failed:\n\n${tally.failures.join("\n\n")}`);
  console.log(`\nEverything took ${((performance.now() - started) / 60_000).toFixed(1)} minutes.`);
  console.log(describeTally(tally));
  process.exitCode = tally.failed > 0 ? 1 : 0;
}
