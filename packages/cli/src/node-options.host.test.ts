import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";

const berth = new URL("../bin/berth.js", import.meta.url).pathname;

test("a file of a guest's variables says nothing to Node itself; without the -- of the first line it would", async () => {
  const folder = await scratchDirectory("options");
  const file = join(folder, "guest.env");
  const [trap, sprung] = [join(folder, "trap.cjs"), "the trap is sprung"];
  writeFileSync(trap, `console.log("${sprung}")`);
  writeFileSync(file, `NODE_OPTIONS=--require=${trap}\n`);
  const env = {
    PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
    HOME: folder,
    BERTH_URL: "http://127.0.0.1:1",
  };
  const run = (program: string, ...args: readonly string[]) => {
    const { stdout, stderr } = spawnSync(program, args, { env, encoding: "utf8" });
    return { stdout, stderr };
  };
  const words = ["launch", "nginx", "--env-file", file];
  expect(run(berth, ...words)).toEqual({ stdout: "", stderr: expect.stringMatching(/^berth: berthd does not answer/) });
  expect(run(process.execPath, berth, ...words).stdout).toContain(sprung);
  // Nor does an option that a guest's program is given.
  expect(run(berth, "exec", "web", "serve", "--env-file=/nonexistent").stderr).toMatch(
    /^berth: berthd does not answer/,
  );
});
