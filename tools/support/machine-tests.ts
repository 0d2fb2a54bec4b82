import { vitestPart } from "./checks.ts";
import { ensureGuestKit } from "./guest-kit.ts";
import { runInForeground } from "./parts.ts";
import { reportPath, type Tally, tallyRun } from "./tally.ts";

/** Those that `npm test` runs, and those that take so long that `npm run test:long` has them. */
export type MachineTests = "short" | "long";

const projects = { short: ["host", "system"], long: ["long"] } as const;

/** Runs tests with real programs and machines, and counts them; `extra` are names of files to run or further options of Vitest. */
export async function runMachineTests(which: MachineTests, extra: readonly string[] = []): Promise<Tally> {
  await ensureGuestKit();
  const report = reportPath(which);
  const part = vitestPart(`${which} tests with real programs`, projects[which], "default", report, extra);
  return tallyRun(report, (await runInForeground(part)) === 0);
}
