import { PassThrough } from "node:stream";
import { main } from "../main.ts";
import type { Surroundings } from "../surroundings.ts";

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** How to press Ctrl-C, and type. */
interface Keys {
  interrupt(): void;
  type(text: string): void;
}

export interface RunOptions {
  readonly url?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Whether the streams are terminals. */
  readonly terminal?: boolean;
  readonly input?: string | Buffer;
  /** Called with how to press Ctrl-C and type, and what it has said so far, once the command runs. */
  readonly during?: (keys: Keys & { stdout(): string; stderr(): string }) => void;
  /** Called with all it has said on standard error, whenever it says more. */
  readonly onSaid?: (said: string, keys: Keys) => void;
}

/** Runs a command line in this process and collects what it says. */
export async function runBerth(words: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const terminal = options.terminal ?? false;
  const listeners = new Set<() => void>();
  const stream = () =>
    Object.assign(new PassThrough(), { isTTY: terminal, columns: 100, rows: 30, setRawMode: () => {} });
  const [stdin, stdout, stderr] = [stream(), stream(), stream()];
  const written = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  stdout.on("data", (chunk: Buffer) => written.stdout.push(chunk));
  const text = (name: "stdout" | "stderr") => Buffer.concat(written[name]).toString("utf8");
  const keys: Keys = {
    interrupt: () => {
      for (const listener of [...listeners]) listener();
    },
    type: (typed) => stdin.write(typed),
  };
  stderr.on("data", (chunk: Buffer) => {
    written.stderr.push(chunk);
    options.onSaid?.(text("stderr"), keys);
  });
  if (options.input !== undefined) stdin.end(options.input);
  else if (!terminal) stdin.end();
  const outside: Surroundings = {
    env: { BERTH_URL: options.url ?? "http://127.0.0.1:1", BERTH_TOKEN: "berth_test", ...options.env },
    cwd: options.cwd ?? "/",
    home: "/nonexistent",
    uid: 1000,
    stdin,
    stdout,
    stderr,
    onInterrupt(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const done = main(words, outside);
  options.during?.({ ...keys, stdout: () => text("stdout"), stderr: () => text("stderr") });
  const code = await done;
  return { code, stdout: text("stdout"), stderr: text("stderr") };
}
