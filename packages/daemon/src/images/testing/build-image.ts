import { spawnSync } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { localHost } from "../../host/local.ts";
import { createImages } from "../images.ts";

// Run as a program: builds a folder's Dockerfile, tells its log, and prints the image at the end. With `--as` and a user and a file of
// subordinate ids (as root in a mount namespace of its own) it does so as that user with those ids.
const [mode, ...rest] = process.argv.slice(2);
if (mode === "--as") {
  const [uid = "", idsFile = "", ...args] = rest;
  const run = (program: string, ...args: readonly string[]) =>
    spawnSync(program, args, { stdio: "inherit" }).status ?? 1;
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    if (run("mount", "--bind", idsFile, file) !== 0) throw new Error(`${file} could not be replaced`);
  }
  const user = [`--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"];
  process.exitCode = run("setpriv", ...user, process.execPath, import.meta.filename, "--build", ...args);
} else {
  const [dataDirectory = "", directory = ""] = rest;
  const images = await createImages({ host: localHost(), dataDirectory, outbound: { allowHosts: [] } });
  const say = (line: string) => void process.stdout.write(`${line}\n`);
  const work = { signal: new AbortController().signal, log: say, progress: () => {} };
  await images.removeLeftovers();
  say(`left in tmp: ${(await readdir(join(dataDirectory, "tmp")).catch(() => [])).length}`);
  const image = await images.build({ directory, dockerfile: "Dockerfile", buildArgs: {} }, async () => undefined, work);
  const artifact = await images.buildArtifact(image, work);
  say(`artifact ${artifact.path}`);
}
