import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient, UnreachableError } from "@berth/api";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { readListenFile } from "../../packages/daemon/src/listen-file.ts";
import { repositoryRoot } from "../support/parts.ts";
import { BerthdLog } from "./log.ts";

/** Something berthd or its machine did not do; the message is for the person at the terminal. */
export class StartError extends Error {}

/** How long berthd may take to answer. */
const startTimeoutMs = 60_000;

/** Where the berthd of a data folder writes what it says, when it is started here. */
export function logOf(dataDir: string): BerthdLog {
  return new BerthdLog(join(dataDir, "berthd.log"));
}

/** Uses the berthd that runs on a data folder, or starts one, hands its process over at once, and waits for its first answer. */
export async function ensureBerthd(
  dataDir: string,
  log: BerthdLog,
  onStart: (child: ChildProcess) => void,
): Promise<Client> {
  const running = await answering(dataDir);
  if (running) return running;
  const child = startBerthd(dataDir, log);
  onStart(child);
  const deadline = performance.now() + startTimeoutMs;
  for (;;) {
    const client = await answering(dataDir);
    if (client) return client;
    if (child.exitCode !== null || child.signalCode !== null) throw new StartError(lastWords(log));
    if (performance.now() > deadline)
      throw new StartError(`berthd did not answer within ${startTimeoutMs / 1000} s. Its log is ${log.path}.`);
    await delay(50);
  }
}

/** In a session of its own, so that a Ctrl-C in this terminal reaches it once: from us. */
function startBerthd(dataDir: string, log: BerthdLog): ChildProcess {
  mkdirSync(dataDir, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 });
  const berthd = join(repositoryRoot, "packages/daemon/bin/berthd.js");
  const child = log.open((fd) =>
    spawn(process.execPath, [berthd], { cwd: dataDir, detached: true, stdio: ["ignore", fd, fd] }),
  );
  child.once("exit", log.keepBounded());
  return child;
}

/** A client of the berthd that works on this data folder, if it answers. It keeps there where it listens and the token it takes. */
async function answering(dataDir: string): Promise<Client | undefined> {
  const url = await readListenFile(localHost(), dataDir);
  const token = readWord(join(dataDir, "admin-token"));
  if (!url || !token) return undefined;
  const client = createClient({ url, token });
  try {
    await client.listNodes();
    return client;
  } catch (error) {
    if (error instanceof UnreachableError) return undefined;
    throw error;
  }
}

function readWord(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** What a berthd that ended said last. */
export function lastWords(log: BerthdLog): string {
  return `berthd ended. Its last words, from ${log.path}:\n${log.lastWords()}`;
}
