import { execFile } from "node:child_process";
import { join } from "node:path";

const berthd = join(import.meta.dirname, "../../packages/daemon/bin/berthd.js");

/** Runs `berthd purge` on a data folder; what it said, line by line, and its exit code. */
export function runPurge(dataDir: string): Promise<{ readonly code: number; readonly said: readonly string[] }> {
  return new Promise((resolve) => {
    const env = { PATH: process.env.PATH, HOME: process.env.HOME, BERTH_DATA_DIR: dataDir };
    execFile(process.execPath, [berthd, "purge"], { env }, (error, _stdout, stderr) => {
      const code = error ? Number(error.code ?? 1) : 0;
      resolve({ code, said: stderr.split("\n").filter(Boolean) });
    });
  });
}
