import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Client, Instance } from "@berth/api";
import { expect } from "vitest";
import { markOf, readMark } from "../../packages/daemon/src/drivers/qemu/command-line.ts";
import { parseSockets } from "../../packages/daemon/src/network/kernel-sockets.ts";
import { withoutRules } from "../../packages/daemon/src/network/rules.ts";
import { portTableName, tableName } from "../../packages/daemon/src/network/user-network.ts";
import { eventually } from "../support/eventually.ts";
import { type FoundProcess, processesOf } from "../support/processes.ts";
import { audit } from "./audit.ts";

/** Resolves once berthd has found out how guests run here: until then a trial machine is running, which is no instance's. */
export async function accelerated(dataDir: string): Promise<void> {
  await eventually(() => expect(existsSync(join(dataDir, "accelerator.json"))).toBe(true));
}

const sockets = ["channel.sock", "console.sock", "control.sock", "qmp.sock", "work.sock"];
const streams = ["console", "control", "machine"];

/**
 * The audit for real machines: beside rows and files, every process, socket and firewall rule of the data folder is held against the instances, by
 * exact marks. Processes that are just ending are given a moment.
 */
export async function auditQemu(client: Client, dataDir: string, berthdPid: number): Promise<void> {
  await eventually(() => auditOnce(client, dataDir, berthdPid));
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
    const kept = ["channel-keys.json", "machine.json", "run.json", "vm"];
    if (instance.status.phase === "suspended") kept.push("memory");
    const others = readdirSync(folder).filter((name) => !kept.includes(name));
    expect(others, "other files of the instance").toEqual([]);
  }
  for (const { id } of waiting) {
    const folder = join(dataDir, "instances", id);
    expect(readdirSync(folder).sort(), "files of a machine in a pool").toEqual(["machine.json", "run.json", "vm"]);
    expect(readdirSync(join(folder, "vm")).sort(), "its own files").toEqual(["root.qcow2", "log", ...sockets].sort());
  }
  auditRules(installationId, running.length + waiting.length > 0);
  auditPorts(installationId, items);
  auditListeners(berthdPid, items);
}

function machinesIn(dataDir: string): string[] {
  const folder = join(dataDir, "instances");
  const ids = existsSync(folder) ? readdirSync(folder) : [];
  return ids.filter((id) => existsSync(join(folder, id, "machine.json")));
}

/** What runs of a machine, by name: its hypervisor, those who keep its logs, and the one that stands for these. */
function processesFor(id: string, installationId: string): string[] {
  const hypervisor = markOf({ installationId, instanceId: id });
  return [hypervisor, `logs of ${id}`, ...streams.map((stream) => `log of ${id}: ${stream}`)];
}

function nameOf({ pid, commandLine }: FoundProcess, dataDir: string): string {
  const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  const marked = readMark(args);
  if (marked) return marked.isHypervisor ? markOf(marked.owner) : `launcher of ${marked.owner.instanceId}`;
  const last = args.at(-1) ?? "";
  const [, id, stream] = /^\/instances\/([^/]+)\/vm\/log\/([^/]+)$/.exec(last.slice(dataDir.length)) ?? [];
  if (id && args[0] === "s6-log") return `log of ${id}: ${stream}`;
  return id && args.includes("berth-logs") ? `logs of ${id}` : commandLine;
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

/** At rest no port is diverted, and what is counted comes to those that may fall asleep. */
function auditPorts(installationId: string, items: readonly Instance[]): void {
  if (process.getuid?.() !== 0) return;
  const { status, stdout } = spawnSync("nft", ["list", "table", "inet", portTableName(installationId)], {
    encoding: "utf8",
  });
  if (status !== 0) return;
  const elements = (name: string) => {
    const [, text = ""] = new RegExp(`\\b${name} \\{[^}]*?elements = \\{([^}]*)\\}`).exec(stdout) ?? [];
    return [...text.matchAll(/([\w.]+(?: \. [\w.]+)+) counter/g)].map(([, element]) => element);
  };
  expect(stdout, "ports that are diverted").not.toMatch(/timeout \d/);
  const counted = items
    .filter(({ spec, status }) => spec.autosuspend && status.phase === "running")
    .flatMap(({ status }) => status.ports.map((port) => `${port.protocol} . ${port.hostAddress} . ${port.hostPort}`));
  expect(elements("counted_here").sort(), "ports that are counted").toEqual(counted.sort());
}

/** Only those that sleep by themselves have sockets of berthd's: their ports while they sleep, and others where those that came meanwhile arrived. */
function auditListeners(pid: number, items: readonly Instance[]): void {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        // It was closed in between.
        return [];
      }
    }),
  );
  const listening = parseSockets(readFileSync("/proc/net/tcp", "utf8"))
    .filter(({ state, inode }) => state === 10 && inodes.has(String(inode)))
    .map(({ port }) => port);
  const sleepers = items.filter(({ spec }) => spec.autosuspend);
  if (sleepers.length === 0) expect(listening, "where berthd listens").toHaveLength(1);
  const asleep = sleepers.filter(({ status }) => status.phase === "suspended");
  for (const { status } of asleep)
    for (const { hostPort } of status.ports) expect(listening, "where berthd listens").toContain(hostPort);
}

/** Takes the firewall rules of a test's installation away. */
export function removeRules(dataDir: string): void {
  if (process.getuid?.() !== 0) return;
  const id = readInstallationId(dataDir);
  execFileSync("nft", ["-f", "-"], { input: [tableName(id), portTableName(id)].map(withoutRules).join("") });
}

export function readInstallationId(dataDir: string): string {
  using database = new DatabaseSync(join(dataDir, "berth.db"), { readOnly: true });
  const [row] = database.prepare("select * from setting where name = 'installation'").all();
  return JSON.parse(String(row?.value)) as string;
}
