import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Client } from "@berth/api";
import { expect, vi } from "vitest";
import { markOf, readMark } from "../../packages/daemon/src/drivers/qemu/command-line.ts";
import { withoutRules } from "../../packages/daemon/src/network/rules.ts";
import { tableName } from "../../packages/daemon/src/network/user-network.ts";
import { type FoundProcess, processesOf } from "../support/processes.ts";
import { audit } from "./audit.ts";

/** Resolves once berthd has found out how guests run here: until then a trial machine is running, which is no instance's. */
export async function accelerated(dataDir: string): Promise<void> {
  await vi.waitFor(() => expect(existsSync(join(dataDir, "accelerator.json"))).toBe(true), {
    timeout: 120_000,
    interval: 100,
  });
}

const sockets = ["channel.sock", "console.sock", "control.sock", "qmp.sock", "work.sock"];
const streams = ["console", "control", "machine"];

/**
 * The audit for real machines: beside rows and files, every process, socket and firewall rule of the data folder is held against the instances, by
 * exact marks. Processes that are just ending are given a moment.
 */
export async function auditQemu(client: Client, dataDir: string, berthdPid: number): Promise<void> {
  await vi.waitFor(() => auditOnce(client, dataDir, berthdPid), { timeout: 5_000, interval: 100 });
}

async function auditOnce(client: Client, dataDir: string, berthdPid: number): Promise<void> {
  await audit(client, dataDir, async () => machinesIn(dataDir));
  const { items } = await client.listInstances({ query: { limit: 500 } });
  const installationId = readInstallationId(dataDir);
  const { items: pools } = await client.listPools({ query: { limit: 500 } });
  const waiting = pools.flatMap(({ machines }) => machines);
  const running = items.filter(({ status }) => status.phase === "running");
  const expected = [...running, ...waiting].flatMap(({ id }) => processesFor(id, installationId)).sort();
  const found = processesOf(dataDir).filter(({ pid }) => pid !== berthdPid);
  expect(found.map((one) => nameOf(one, dataDir)).sort(), "processes of the data folder").toEqual(expected);
  for (const instance of items) {
    const folder = join(dataDir, "instances", instance.id);
    const running = instance.status.phase === "running";
    const disks = instance.spec.disks.map(({ name }) => `${name}.qcow2`);
    expect(readdirSync(join(folder, "vm")).sort(), "the machine's own files").toEqual(
      [...disks, "log", ...(running ? sockets : [])].sort(),
    );
    const others = readdirSync(folder).filter(
      (name) => !["channel-keys.json", "machine.json", "run.json", "vm"].includes(name),
    );
    expect(others, "other files of the instance").toEqual([]);
  }
  for (const { id } of waiting) {
    const folder = join(dataDir, "instances", id);
    expect(readdirSync(folder).sort(), "files of a machine in a pool").toEqual(["machine.json", "run.json", "vm"]);
    expect(readdirSync(join(folder, "vm")).sort(), "its own files").toEqual(["root.qcow2", "log", ...sockets].sort());
  }
  auditRules(installationId, running.length + waiting.length > 0);
}

function machinesIn(dataDir: string): string[] {
  const folder = join(dataDir, "instances");
  const ids = existsSync(folder) ? readdirSync(folder) : [];
  return ids.filter((id) => existsSync(join(folder, id, "machine.json")));
}

/** What runs of a machine, by name: its hypervisor and those who keep its logs. */
function processesFor(id: string, installationId: string): string[] {
  const hypervisor = markOf({ installationId, instanceId: id });
  return [hypervisor, ...streams.map((stream) => `log of ${id}: ${stream}`)];
}

function nameOf({ pid, commandLine }: FoundProcess, dataDir: string): string {
  const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  const marked = readMark(args);
  if (marked) return marked.isHypervisor ? markOf(marked.owner) : `launcher of ${marked.owner.instanceId}`;
  const last = args.at(-1) ?? "";
  const [, id, stream] = /^\/instances\/([^/]+)\/vm\/log\/([^/]+)$/.exec(last.slice(dataDir.length)) ?? [];
  return args[0] === "s6-log" && id ? `log of ${id}: ${stream}` : commandLine;
}

/** The rules of each installation as they were first seen. */
const rules = new Map<string, string>();

/** As root the guests' rules are one table of the installation, there before any guest runs, and never another one than at first. */
function auditRules(installationId: string, areNeeded: boolean): void {
  if (process.getuid?.() !== 0) return;
  const table = tableName(installationId);
  const tables = execFileSync("nft", ["list", "tables"], { encoding: "utf8" }).trim().split("\n");
  const own = tables.filter((line) => line.endsWith(` ${table}`));
  if (own.length === 0 && !areNeeded) return;
  expect(own, "the installation's firewall rules").toEqual([`table inet ${table}`]);
  const text = execFileSync("nft", ["list", "table", "inet", table], { encoding: "utf8" });
  expect(text, "the installation's firewall rules").toBe(rules.get(table) ?? text);
  rules.set(table, text);
}

/** Takes the firewall rules of a test's installation away. */
export function removeRules(dataDir: string): void {
  if (process.getuid?.() !== 0) return;
  execFileSync("nft", ["-f", "-"], { input: withoutRules(tableName(readInstallationId(dataDir))) });
}

export function readInstallationId(dataDir: string): string {
  using database = new DatabaseSync(join(dataDir, "berth.db"), { readOnly: true });
  const [row] = database.prepare("select * from setting where name = 'installation'").all();
  return JSON.parse(String(row?.value)) as string;
}
