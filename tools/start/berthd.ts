import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ApiError, type Client, createClient, UnreachableError } from "@berth/api";
import type { Config } from "../../packages/daemon/src/config.ts";
import { repositoryRoot } from "../support/parts.ts";

/** Something berthd or its machine did not do; the message is for the person at the terminal. */
export class StartError extends Error {}

/** How long berthd may take to answer. */
const startTimeoutMs = 60_000;

/** Where a client on this machine reaches berthd. */
export function urlOf({ listen }: Config): string {
  const everywhere: Record<string, string> = { "0.0.0.0": "127.0.0.1", "::": "::1" };
  const host = everywhere[listen.host] ?? listen.host;
  return `http://${host.includes(":") ? `[${host}]` : host}:${listen.port}`;
}

/** Uses the berthd that runs, or starts one, hands its process over at once, and waits for its first answer. */
export async function ensureBerthd(config: Config, onStart: (child: ChildProcess) => void): Promise<Client> {
  const running = await answering(config);
  if (running) return running;
  const logPath = join(config.dataDir, "berthd.log");
  const child = startBerthd(config, logPath);
  onStart(child);
  const deadline = performance.now() + startTimeoutMs;
  for (;;) {
    const client = await answering(config);
    if (client) return client;
    if (child.exitCode !== null || child.signalCode !== null)
      throw new StartError(`berthd ended at once. Its last words, from ${logPath}:\n${lastWords(logPath)}`);
    if (performance.now() > deadline) {
      child.kill("SIGTERM");
      throw new StartError(`berthd did not answer within ${startTimeoutMs / 1000} s. Its log is ${logPath}.`);
    }
    await delay(50);
  }
}

/** In a session of its own, so that a Ctrl-C in this terminal reaches it once: from us. */
function startBerthd(config: Config, logPath: string): ChildProcess {
  mkdirSync(config.dataDir, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 });
  const log = openSync(logPath, "w", 0o600);
  try {
    return spawn(process.execPath, [join(repositoryRoot, "packages/daemon/src/main.ts")], {
      cwd: config.dataDir,
      detached: true,
      stdio: ["ignore", log, log],
    });
  } finally {
    closeSync(log);
  }
}

/** A client of the berthd that answers; undefined when none does. Throws a StartError when something else has its place. */
async function answering(config: Config): Promise<Client | undefined> {
  const token = readToken(join(config.dataDir, "admin-token"));
  const client = createClient({ url: urlOf(config), token: token ?? "" });
  try {
    await client.listNodes();
    return client;
  } catch (error) {
    // It answers before it has written the token down, or with one of another data folder.
    if (error instanceof ApiError && error.status === 401) {
      if (token === undefined) return undefined;
      throw new StartError(
        `A berthd with another data folder than ${config.dataDir} listens at ${client.url}. Stop it, or set BERTH_LISTEN to another address.`,
      );
    }
    if (!(error instanceof UnreachableError)) throw error;
    if (!error.cause) throw new StartError(`${error.message}. Set BERTH_LISTEN to another address.`);
    return undefined;
  }
}

function readToken(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

export function lastWords(logPath: string): string {
  return readFileSync(logPath, "utf8").trim().split("\n").slice(-15).join("\n");
}
