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
  /** Put before the command: what gives it a terminal, say. */
  readonly wrap?: readonly string[];
}

/** How a berthd's command line is called: a process of its own, which knows nothing but where berthd is. */
export function berthOf({ url, token }: Pick<Berthd, "url" | "token">) {
  const start = (words: readonly string[], options: RunBerthOptions = {}) => {
    const [first = "", ...rest] = [...(options.wrap ?? []), process.execPath, program, ...words];
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

function withJson(words: readonly string[]): string[] {
  const end = words.indexOf("--");
  return end < 0 ? [...words, "--json"] : [...words.slice(0, end), "--json", ...words.slice(end)];
}

export type RunBerth = ReturnType<typeof berthOf>;
