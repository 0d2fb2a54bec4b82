import { execFile } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { completionScripts } from "./completion-scripts.ts";

const berth = new URL("../bin/berth.js", import.meta.url).pathname;

test("bash proposes what berth does", async () => {
  const folder = await scratchDirectory("complete");
  mkdirSync(join(folder, "bin"));
  writeFileSync(join(folder, "bin/berth"), `#!/bin/sh\nexec '${process.execPath}' '${berth}' "$@"\n`, { mode: 0o755 });
  writeFileSync(join(folder, "berth.bash"), completionScripts.bash ?? "");
  const script = `source "$1"; COMP_WORDS=(berth image p); COMP_CWORD=2; _berth; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const env = { ...process.env, PATH: `${join(folder, "bin")}:${process.env.PATH}` };
  const { stdout } = await promisify(execFile)("bash", ["-c", script, "bash", join(folder, "berth.bash")], { env });
  expect(stdout).toBe("pull\n");
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
