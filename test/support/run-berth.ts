import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Berthd } from "./berthd.ts";

const program = join(import.meta.dirname, "../../packages/cli/bin/berth.js");

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunBerthOptions {
  readonly input?: string | Buffer;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Give it a terminal of its own (script(1)), where the input is typed; both its outputs are one then. */
  readonly terminal?: boolean;
}

/** How a berthd's command line is called: a process of its own, which knows nothing but where berthd is. */
export function berthOf({ url, token }: Pick<Berthd, "url" | "token">) {
  const start = (words: readonly string[], options: RunBerthOptions = {}) => {
    const command = [process.execPath, program, ...words];
    const [first = "", ...rest] = options.terminal ? onTerminal(command) : command;
    return spawn(first, rest, {
      cwd: options.cwd ?? "/",
      env: { PATH: process.env.PATH, HOME: "/nonexistent", BERTH_URL: url, BERTH_TOKEN: token, ...options.env },
    });
  };

  /** Runs a command to its end, whatever that is. */
  const run = async (words: readonly string[], options: RunBerthOptions = {}): Promise<Ran> => {
    const child = start(words, options);
    // A command may end without having read everything.
    child.stdin.on("error", () => {}).end(options.input);
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { code, stdout, stderr };
  };

  /** Runs a command that must succeed and answers what it printed. */
  const berth = async (...words: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(words);
    if (code !== 0) throw new Error(`berth ${words.join(" ")} ended with ${code}:\n${stderr}${stdout}`);
    return stdout;
  };

  /** As `berth`, with --json, parsed. */
  const json = async <T>(...words: readonly string[]): Promise<T> => {
    // Before a `--`, what follows is the guest's.
    const [noun = "", ...rest] = words;
    const text = await berth(noun, ...withJson(rest));
    return JSON.parse(text) as T;
  };

  return { start, run, berth, json };
}

/** util-linux's script, which only takes a line for the shell. */
function onTerminal(command: readonly string[]): string[] {
  const line = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
  return ["script", "--quiet", "--return", "--command", line, "/dev/null"];
}

function withJson(words: readonly string[]): string[] {
  const end = words.indexOf("--");
  return end < 0 ? [...words, "--json"] : [...words.slice(0, end), "--json", ...words.slice(end)];
}

export type RunBerth = ReturnType<typeof berthOf>;
