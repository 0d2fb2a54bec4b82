import { execFile } from "node:child_process";
import { join } from "node:path";
import { asOrdinaryUser } from "./ordinary-user.ts";

const berthd = join(import.meta.dirname, "../../packages/daemon/bin/berthd.js");

/** Runs `berthd purge` on a data folder, as the ordinary user it was given to when asked so; what it said, line by line, and its exit code. */
export function runPurge(
  dataDir: string,
  { ordinaryUser = false } = {},
): Promise<{ readonly code: number; readonly said: readonly string[] }> {
  return new Promise((resolve) => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, BERTH_DATA_DIR: dataDir };
    const [program = "", ...args] = ordinaryUser
      ? asOrdinaryUser("packages/daemon/bin/berthd.js", dataDir).command
      : [process.execPath, berthd];
    execFile(program, [...args, "purge"], { env }, (error, _stdout, stderr) => {
      const code = error ? Number(error.code ?? 1) : 0;
      resolve({ code, said: stderr.split("\n").filter(Boolean) });
    });
  });
}
