import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient } from "@berth/api";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { readListenFile } from "../../packages/daemon/src/listen-file.ts";
import { asOrdinaryUser } from "./ordinary-user.ts";

const repositoryRoot = join(import.meta.dirname, "../..");

export interface BerthdOptions {
  /** A scratch folder; made when it is not there. A second berthd on it is the first one restarted. */
  readonly dataDir: string;
  /** Any free port of the loopback address when not given. */
  readonly port?: number;
  /** Further settings: `BERTH_DRIVER: "fake"`. */
  readonly env?: Readonly<Record<string, string>>;
  /** Run it as an ordinary user, whom the data folder is given to. Only root can say so. */
  readonly ordinaryUser?: boolean;
  /** How long it may take to answer. */
  readonly timeoutMs?: number;
}

/** A real berthd in a process of its own. */
export interface Berthd extends AsyncDisposable {
  readonly url: string;
  readonly token: string;
  readonly client: Client;
  readonly pid: number;
  /** What it wrote so far. */
  log(): string;
  /** Asks it to end, as Ctrl-C does, and waits; its instances go on. */
  stop(): Promise<void>;
  /** Ends it without a word (SIGKILL) and waits. */
  kill(): Promise<void>;
  /** Resolves with the signal that ended it, null when it ended by itself. */
  readonly ended: Promise<NodeJS.Signals | null>;
}

/** Makes the data folder, as berthd asks for it. */
export function makeDataFolder({ dataDir, ordinaryUser }: Pick<BerthdOptions, "dataDir" | "ordinaryUser">): void {
  mkdirSync(dataDir, { recursive: true, mode: process.getuid?.() === 0 && !ordinaryUser ? 0o711 : 0o700 });
}

/** The settings of a berthd in tests. */
export function settingsOf({ dataDir, port, env }: Pick<BerthdOptions, "dataDir" | "port" | "env">) {
  return {
    BERTH_DATA_DIR: dataDir,
    // Nothing happens but what a test asks for.
    BERTH_TEMPLATES: "asked",
    // Tests send more than people do.
    BERTH_RATE_LIMIT: "0",
    BERTH_LISTEN: `127.0.0.1:${port ?? 0}`,
    ...env,
  };
}

/** Starts berthd and waits for its first answer. Rejects with its last words when it ends instead. */
export async function startBerthd(options: BerthdOptions): Promise<Berthd> {
  const { dataDir } = options;
  makeDataFolder(options);
  const logPath = `${dataDir}.log`;
  const child = spawnBerthd(options, logPath);
  const ended = once(child, "exit");
  const log = () => readFileSync(logPath, "utf8");
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  const { url, token } = await firstAnswer(dataDir, child, options.timeoutMs ?? 60_000).catch(async (error: Error) => {
    await end("SIGKILL");
    throw new Error(`${error.message}\n${log().slice(-4000)}`);
  });
  const stop = () => end("SIGTERM");
  return {
    url,
    token,
    client: createClient({ url, token }),
    pid: child.pid ?? 0,
    log,
    stop,
    kill: () => end("SIGKILL"),
    ended: ended.then(() => child.signalCode),
    [Symbol.asyncDispose]: stop,
  };
}

/** Nothing of the caller's surroundings reaches it but where programs are. */
function spawnBerthd(options: BerthdOptions, logPath: string): ChildProcess {
  const { dataDir, ordinaryUser } = options;
  const log = openSync(logPath, "a", 0o600);
  const script = "packages/daemon/bin/berthd.js";
  try {
    const { command, home = process.env.HOME } = ordinaryUser
      ? asOrdinaryUser(script, dataDir)
      : { command: [process.execPath, join(repositoryRoot, script)] };
    const [program = "", ...args] = command;
    return spawn(program, args, {
      cwd: dataDir,
      env: {
        PATH: process.env.PATH,
        HOME: home,
        ...settingsOf(options),
      },
      stdio: ["ignore", log, log],
    });
  } finally {
    closeSync(log);
  }
}

/** Where it listens and its token, once it answers there. */
async function firstAnswer(dataDir: string, child: ChildProcess, timeoutMs: number) {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error("berthd ended instead of answering:");
    const url = await readListenFile(localHost(), dataDir);
    const token = readWord(join(dataDir, "admin-token"));
    if (url && token && (await answers(url, token))) return { url, token };
    await delay(20);
  }
  throw new Error(`berthd did not answer within ${timeoutMs / 1000} s:`);
}

function readWord(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8").trim();
  } catch {
    return undefined;
  }
}

async function answers(url: string, token: string): Promise<boolean> {
  try {
    await createClient({ url, token }).listNodes();
    return true;
  } catch {
    return false;
  }
}
