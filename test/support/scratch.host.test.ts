import { execFileSync, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { describe, expect, inject, it } from "vitest";
import { markProcess, mentions, processesOf } from "./processes.ts";
import { sweepDeadRuns } from "./run-folder.ts";
import { scratchDirectory } from "./scratch.ts";

it("makes folders of their own below the run's, short enough for a unix socket", async () => {
  const [one, two] = [await scratchDirectory("a"), await scratchDirectory("a")];
  expect(one).not.toBe(two);
  expect(one.startsWith(`${inject("runFolder")}/`)).toBe(true);
  expect(one.length).toBeLessThan(40);
});

it("tells a folder from one that merely begins alike", () => {
  expect(mentions("x=/tmp/bt-1", "/tmp/bt-1")).toBe(true);
  expect(mentions("/tmp/bt-12 /tmp/bt-1/disk", "/tmp/bt-1")).toBe(true);
  expect(mentions("/tmp/bt-12", "/tmp/bt-1")).toBe(false);
});

/** Named like a run's, and not like that of another run of this very test. */
function unusedRunFolder(): string {
  return join(tmpdir(), `bt-${randomBytes(4).toString("hex")}`);
}

it("sweeps a dead run with its processes and its firewall table, and leaves a living one alone", async () => {
  const [dead, living] = [unusedRunFolder(), unusedRunFolder()];
  const alive = markProcess(process.pid);
  for (const [folder, owner] of [
    [dead, { ...alive, startTicks: "1" }],
    [living, alive],
  ] as const) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, "owner.json"), JSON.stringify(owner));
  }
  const sleeper = spawn("sleep", ["600"], { cwd: dead });
  const ended = new Promise((resolve) => sleeper.once("exit", (_code, signal) => resolve(signal)));
  const isRoot = process.getuid?.() === 0;
  const table = `berth_test${basename(dead).slice(3)}`;
  if (isRoot) execFileSync("nft", ["add", "table", "inet", table, "{", "comment", `"${dead}/data/network"`, ";", "}"]);
  expect(processesOf(dead).map((one) => one.pid)).toEqual([sleeper.pid]);
  sweepDeadRuns();
  expect(await ended).toBe("SIGKILL");
  expect(existsSync(dead)).toBe(false);
  if (isRoot) expect(spawnSync("nft", ["list", "table", "inet", table]).status).toBe(1);
  expect(existsSync(living)).toBe(true);
  rmSync(living, { recursive: true });
});

describe("what a test file leaves running", () => {
  /** Runs a test file that starts a process in its folder and then ends as told; resolves with that process and what the run said. */
  function runFile(name: string, ending: string) {
    const folder = mkdtempSync(join(inject("runFolder"), "nested-"));
    const support = (file: string) => JSON.stringify(join(import.meta.dirname, file));
    writeFileSync(
      join(folder, "vitest.config.mjs"),
      `export default { test: { name: "nested", pool: "forks", globalSetup: ${support("run-folder.ts")},
        setupFiles: [${["remove-scratch.ts", "remove-rules.ts", "end-processes.ts"].map(support)}] } };`,
    );
    writeFileSync(
      join(folder, `${name}.test.mjs`),
      `import { spawn } from "node:child_process";
      import { writeFileSync } from "node:fs";
      import { beforeAll, expect, it } from "vitest";
      import { scratchDirectory } from ${support("scratch.ts")};
      const leave = async () => {
        const { pid } = spawn("sleep", ["600"], { cwd: await scratchDirectory("left"), detached: true, stdio: "ignore" });
        writeFileSync(${JSON.stringify(join(folder, "pid"))}, String(pid));
      };
      ${ending}`,
    );
    const vitest = join(import.meta.dirname, "../../node_modules/vitest/vitest.mjs");
    const run = spawnSync(process.execPath, [vitest, "run", "--root", folder], { encoding: "utf8" });
    const pid = Number(readFileSync(join(folder, "pid"), "utf8"));
    rmSync(folder, { recursive: true });
    return { status: run.status, said: run.stdout + run.stderr, pid };
  }

  it.each([
    ["test", 'it("fails", async () => { await leave(); expect(1).toBe(2); });'],
    ["beforeAll", 'beforeAll(async () => { await leave(); throw new Error("fails"); }); it("is skipped", () => {});'],
  ])("is ended when its %s failed, and the run tells of the failure alone", (name, ending) => {
    const { status, said, pid } = runFile(name, ending);
    expect(status).toBe(1);
    expect(markProcess(pid)).toBeUndefined();
    expect(said).not.toContain("left behind");
  });

  it("fails the run when its tests have passed", () => {
    const { status, said, pid } = runFile("passes", 'it("passes", leave);');
    expect(status).toBe(1);
    expect(said).toContain(`process ${pid}: sleep 600`);
    expect(markProcess(pid)).toBeUndefined();
  });
});
