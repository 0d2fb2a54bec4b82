import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Client } from "@berth/api";
import { expect } from "vitest";
import { eventually } from "../support/eventually.ts";

export const ledgerImage = "localhost/ledger:latest";

/** Builds an image whose only program keeps a database under write load (`ledger.c`), and is its own hook. */
export async function buildLedger(client: Client, folder: string): Promise<void> {
  const path = join(folder, "ledger");
  mkdirSync(path);
  const source = join(import.meta.dirname, "ledger.c");
  // SQLite's own warning is of extensions, which nobody loads.
  execFileSync("gcc", ["-O1", "-static", "-s", "-o", join(path, "ledger"), source, "-lsqlite3", "-lm"], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const lines = ["FROM scratch", "COPY ledger /ledger", "COPY ledger /etc/berth/forked", 'CMD ["/ledger"]'];
  writeFileSync(join(path, "Dockerfile"), `${lines.join("\n")}\n`);
  const body = { source: { type: "directory", path }, reference: ledgerImage } as const;
  const { operation } = await client.buildImage({ query: { wait: 300 }, body });
  expect(operation.error).toBeNull();
}

/** What the program found: its counter, and what is on its disk. */
export interface Found {
  readonly memory: number;
  readonly disk: number;
  readonly entries: number;
  readonly integrity: string;
}

/** What an instance wrote to its console, once all of these are in it. */
export async function consoleOf(client: Client, instance: string, ...words: readonly RegExp[]): Promise<string> {
  return eventually(async () => {
    const log = await text(await client.instanceLogs({ params: { instance } }));
    for (const one of words) expect(log).toMatch(one);
    return log.replaceAll("\r", "");
  });
}

/** What it found at a moment that it has a word for. */
export function foundIn(log: string, when: string): Found {
  const line = new RegExp(`^${when} memory (\\d+) disk (\\d+) entries (\\d+) integrity (.*)$`, "m").exec(log);
  const [, memory, disk, entries, integrity = ""] = line ?? [];
  return { memory: Number(memory), disk: Number(disk), entries: Number(entries), integrity };
}
