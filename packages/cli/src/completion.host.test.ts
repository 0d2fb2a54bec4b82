import { execFile, spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { completionScripts } from "./completion-scripts.ts";

const berth = new URL("../bin/berth.js", import.meta.url).pathname;

/** A folder with the shell's script and a `berth` that completes in earnest and otherwise tells how it was called. */
async function completionFolder(shell: string): Promise<{ folder: string; env: NodeJS.ProcessEnv }> {
  const folder = await scratchDirectory("complete");
  mkdirSync(join(folder, "bin"));
  const complete = `[ "$1" = __complete ] && exec '${process.execPath}' '${berth}' "$@"`;
  writeFileSync(join(folder, "bin/berth"), `#!/bin/sh\n${complete}\necho "called: $*."\n`, { mode: 0o755 });
  writeFileSync(join(folder, "script"), completionScripts[shell] ?? "");
  return { folder, env: { PATH: `${join(folder, "bin")}:${process.env.PATH}`, HOME: folder, TERM: "dumb" } };
}

test("bash proposes what berth does", async () => {
  const { folder, env } = await completionFolder("bash");
  const script = `source "$1"; COMP_WORDS=(berth image p); COMP_CWORD=2; _berth; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout } = await promisify(execFile)("bash", ["-c", script, "bash", join(folder, "script")], { env });
  expect(stdout).toBe("pull\n");
});

test("fish proposes what berth does, and why, and files where it knows nothing", async () => {
  const { folder, env } = await completionFolder("fish");
  const script = 'source ./script; complete -C "berth image p"; complete -C "berth cp scr"';
  const { stdout } = await promisify(execFile)("fish", ["--no-config", "-c", script], { cwd: folder, env });
  expect(stdout).toBe("pull\tPull images from a registry\nscript\n");
});

test("zsh completes what is typed", async () => {
  const { folder, env } = await completionFolder("zsh");
  // Only a terminal has completion there: script(1) gives one.
  const shell = spawn("script", ["--quiet", "--return", "--command", "zsh -f -i", "/dev/null"], { cwd: folder, env });
  shell.stdin.end("autoload -Uz compinit; compinit -u -D; source ./script\nberth image pu\t\nexit\n");
  expect(await text(shell.stdout)).toContain("called: image pull.");
});

test("an older Node says what is missing, or finds the one of the clone", async () => {
  const folder = await scratchDirectory("bin");
  const words = [
    `const bin = require(${JSON.stringify(berth.replace("berth.js", "with-node-24.js"))}); bin.run(__filename, ${JSON.stringify(folder)})`,
  ];
  writeFileSync(join(folder, "try.cjs"), words.join(""));
  await expect(promisify(execFile)(process.execPath, [join(folder, "try.cjs")])).rejects.toMatchObject({
    stderr: expect.stringContaining("Berth needs Node 24 or newer"),
  });
});
