import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, closeSync, mkdirSync, openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Client, createClient } from "@berth/api";

const repositoryRoot = join(import.meta.dirname, "../..");

export interface BerthdOptions {
  /** A scratch folder; made when it is not there. A second berthd on it is the first one restarted. */
  readonly dataDir: string;
  readonly port: number;
  /** Further settings: `BERTH_DRIVER: "fake"`. */
  readonly env?: Readonly<Record<string, string>>;
  /** Who it runs as; the data folder is given to them. Only root can say so. */
  readonly user?: { readonly uid: number; readonly gid: number; readonly home: string };
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
}

/** Starts berthd and waits for its first answer. Rejects with its last words when it ends instead. */
export async function startBerthd(options: BerthdOptions): Promise<Berthd> {
  const { dataDir, port, user } = options;
  mkdirSync(dataDir, { recursive: true, mode: user ? 0o700 : 0o711 });
  if (user) chownSync(dataDir, user.uid, user.gid);
  const logPath = `${dataDir}.log`;
  const child = spawnBerthd(options, logPath);
  const ended = once(child, "exit");
  const log = () => readFileSync(logPath, "utf8");
  const url = `http://127.0.0.1:${port}`;
  const end = async (signal: NodeJS.Signals) => {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    await ended;
  };
  const token = await firstAnswer(url, join(dataDir, "admin-token"), child, options.timeoutMs ?? 60_000).catch(
    async (error: Error) => {
      await end("SIGKILL");
      throw new Error(`${error.message}\n${log().slice(-4000)}`);
    },
  );
  const stop = () => end("SIGTERM");
  return {
    url,
    token,
    client: createClient({ url, token }),
    pid: child.pid ?? 0,
    log,
    stop,
    kill: () => end("SIGKILL"),
    [Symbol.asyncDispose]: stop,
  };
}

/** Nothing of the caller's surroundings reaches it but where programs are. */
function spawnBerthd({ dataDir, port, env, user }: BerthdOptions, logPath: string): ChildProcess {
  const log = openSync(logPath, "a", 0o600);
  try {
    return spawn(process.execPath, [join(repositoryRoot, "packages/daemon/src/main.ts")], {
      cwd: dataDir,
      env: {
        PATH: process.env.PATH,
        HOME: user?.home ?? process.env.HOME,
        BERTH_DATA_DIR: dataDir,
        BERTH_LISTEN: `127.0.0.1:${port}`,
        ...env,
      },
      stdio: ["ignore", log, log],
      ...(user ? { uid: user.uid, gid: user.gid } : {}),
    });
  } finally {
    closeSync(log);
  }
}

/** Its token, once it answers with it. */
async function firstAnswer(url: string, tokenPath: string, child: ChildProcess, timeoutMs: number): Promise<string> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error("berthd ended instead of answering:");
    const token = readToken(tokenPath);
    if (token && (await answers(url, token))) return token;
    await delay(20);
  }
  throw new Error(`berthd did not answer within ${timeoutMs / 1000} s:`);
}

function readToken(path: string): string | undefined {
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
