import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { arch, availableParallelism, hostname, networkInterfaces, release, totalmem } from "node:os";
import type { HostFacts } from "./host.ts";

let bootId: string | undefined;

/** The id of this boot of the machine; another one after each boot (random(4)), so it is read once. */
export function readBootId(): string {
  bootId ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  return bootId;
}

export async function localFacts(): Promise<HostFacts> {
  const limit = process.constrainedMemory();
  const memory = limit > 0 ? Math.min(limit, totalmem()) : totalmem();
  return {
    bootId: readBootId(),
    hostname: hostname(),
    kernel: release(),
    architecture: readArchitecture(),
    cpus: availableParallelism(),
    memoryMib: Math.floor(memory / 1024 / 1024),
    memoryAvailableMib: await readAvailableMib(),
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    addresses: Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map(({ address }) => address)),
  };
}

async function readAvailableMib(): Promise<number> {
  const [, kibibytes] = /^MemAvailable:\s+(\d+) kB$/m.exec(await readFile("/proc/meminfo", "utf8")) ?? [];
  return Math.floor(Number(kibibytes ?? 0) / 1024);
}

function readArchitecture(): HostFacts["architecture"] {
  const names: Readonly<Record<string, HostFacts["architecture"]>> = { x64: "amd64", arm64: "arm64" };
  const name = names[arch()];
  if (!name) throw new Error(`Berth does not run on ${arch()} machines.`);
  return name;
}
