import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { TestProject } from "vitest/node";
import { markProcess } from "./processes.ts";

/** Vitest's global setup: stops the run's PostgreSQL at the end, if a test has started one. */
export default function setUpRun(project: TestProject): () => Promise<void> {
  return async () => {
    const folder = join(project.getProvidedContext().runFolder, "pg");
    // The first line is the server's pid (PostgreSQL's manual, "Database File Layout").
    const pidFile = join(folder, "data", "postmaster.pid");
    if (existsSync(pidFile)) {
      const pid = Number(readFileSync(pidFile, "utf8").split("\n")[0]);
      // Fast shutdown: open connections are closed.
      if (markProcess(pid)) process.kill(pid, "SIGINT");
      while (markProcess(pid)) await delay(20);
    }
    rmSync(folder, { recursive: true, force: true });
  };
}
