import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { TestProject } from "vitest/node";
import { removeTablesOf, tablesOf } from "./firewall-tables.ts";
import { markProcess, mayLive, mentions, type ProcessMark, processesOf } from "./processes.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The folder all scratch folders of this run are made in. */
    runFolder: string;
  }
}

const prefix = "bt-";
const ownerFile = "owner.json";

/**
 * Vitest's global setup: makes the run's folder, sweeps what killed runs left, and at the end fails the run when a test left something behind.
 * The folder's name is short, since the path of a unix socket below it must stay under 108 bytes.
 */
export default function setUpRun(project: TestProject): () => Promise<void> {
  sweepDeadRuns();
  const folder = join(tmpdir(), `${prefix}${randomBytes(4).toString("hex")}`);
  // Others may pass through: tests run programs as an unprivileged user.
  mkdirSync(folder);
  chmodSync(folder, 0o711);
  writeFileSync(join(folder, ownerFile), JSON.stringify(markProcess(process.pid)));
  project.provide("runFolder", folder);
  return async () => {
    const left = await leftovers(folder);
    removeRun(folder);
    if (left.length > 0)
      throw new Error(`The tests of project ${project.name} left behind:\n${left.map((one) => `  ${one}`).join("\n")}`);
  };
}

/** What a run must not leave. Processes that are just ending are given a moment to do so. */
async function leftovers(folder: string): Promise<string[]> {
  for (let tries = 0; tries < 40 && processesOf(folder).length > 0; tries++) await delay(50);
  return [
    ...processesOf(folder).map((one) => `process ${one.pid}: ${one.commandLine}`),
    ...mountsOf(folder).map((path) => `mount ${path}`),
    ...tablesOf(folder).map((name) => `firewall table ${name}`),
    ...readdirSync(folder)
      .filter((name) => name !== ownerFile && name !== "ports")
      .map((name) => `folder ${join(folder, name)}`),
  ];
}

/** Removes what runs left that were killed; those still running are told by their owner mark. */
export function sweepDeadRuns(): void {
  for (const name of readdirSync(tmpdir()).filter((one) => /^bt-[0-9a-f]{8}$/.test(one))) {
    const folder = join(tmpdir(), name);
    if (!isOurs(folder)) continue;
    let owner: ProcessMark;
    try {
      owner = JSON.parse(readFileSync(join(folder, ownerFile), "utf8")) as ProcessMark;
    } catch {
      // Just being made, or removed, by another run.
      continue;
    }
    if (!mayLive(owner)) removeRun(folder);
  }
}

/** Whether it is this user's, or this is root: nobody else may judge or remove a run. */
function isOurs(folder: string): boolean {
  const uid = process.getuid?.();
  return uid === 0 || statSync(folder, { throwIfNoEntry: false })?.uid === uid;
}

function removeRun(folder: string): void {
  for (const one of processesOf(folder)) process.kill(one.pid, "SIGKILL");
  removeTablesOf(folder);
  // The deepest first, since one may lie within another.
  for (const path of mountsOf(folder).sort((a, b) => b.length - a.length)) execFileSync("umount", ["--lazy", path]);
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}

/** The mount points within a folder, from field 5 of /proc/self/mountinfo (proc(5)), where a space is written \040. */
function mountsOf(folder: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .map((line) => (line.split(" ")[4] ?? "").replaceAll("\\040", " "))
    .filter((path) => path.startsWith("/") && mentions(path, folder));
}
