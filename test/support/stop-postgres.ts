import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { TestProject } from "vitest/node";
import { markProcess } from "./processes.ts";

/** The run's PostgreSQL: a folder with its data, its socket and its log. Nothing listens on TCP. */
export function postgresFolder(runFolder: string): string {
  return join(runFolder, "pg");
}

/** Vitest's global setup: stops the run's PostgreSQL at the end, if a test has started one. */
export default function setUpRun(project: TestProject): () => Promise<void> {
  return async () => {
    const folder = postgresFolder(project.getProvidedContext().runFolder);
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
