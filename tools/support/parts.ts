import { spawn } from "node:child_process";
import { join } from "node:path";

/** The clone's own folder. */
export const repositoryRoot = join(import.meta.dirname, "../..");

/** One program of a longer command, such as the linter of `npm run check`. */
export interface Part {
  readonly name: string;
  readonly program: string;
  readonly args: readonly string[];
}

export interface PartResult {
  readonly name: string;
  readonly ok: boolean;
  readonly output: string;
  readonly seconds: number;
}

/** A tool of node_modules, run by this very Node rather than whichever its first line finds. */
export function nodePart(name: string, script: string, ...args: readonly string[]): Part {
  return { name, program: process.execPath, args: [join("node_modules", script), ...args] };
}

/** Runs parts, at most `width` at once, telling each one's outcome as it ends; what a failed one wrote is shown. */
export async function runParts(parts: readonly Part[], width: number): Promise<PartResult[]> {
  const results: PartResult[] = [];
  const waiting = [...parts];
  const worker = async () => {
    for (let part = waiting.shift(); part; part = waiting.shift()) {
      const result = await runPart(part);
      results.push(result);
      console.log(`${result.ok ? "✓" : "✗"} ${result.name} (${result.seconds.toFixed(1)} s)`);
      if (!result.ok) console.log(result.output.trimEnd().replace(/^/gm, "  "));
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
}

async function runPart(part: Part): Promise<PartResult> {
  const before = performance.now();
  const child = spawn(part.program, part.args, {
    cwd: repositoryRoot,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, FORCE_COLOR: "0" },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  const ok = await new Promise<boolean>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => resolve(code === 0));
  });
  return { name: part.name, ok, output, seconds: (performance.now() - before) / 1000 };
}

/** Runs a program that owns the terminal; answers with its exit code. */
export async function runInForeground(part: Part): Promise<number> {
  const child = spawn(part.program, part.args, { cwd: repositoryRoot, stdio: "inherit" });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 1));
  });
}
