import { join } from "node:path";
import { isThere, lastLines, run } from "./programs.mjs";
import { phase, SetupError } from "./progress.mjs";
import { repositoryRoot } from "./root.mjs";

/**
 * Builds the kernel and initramfs guests start with, unless they are there.
 * @param {string} node
 * @param {NodeJS.ProcessEnv} env
 */
export async function ensureGuestKit(node, env) {
  const builder = join(repositoryRoot, "tools/build-kit.ts");
  if (!isThere(builder)) return;
  if ((await run(node, [builder, "--check"], { cwd: repositoryRoot, env })).code === 0) return;
  await phase("The guest kit (kernel and initramfs)", async () => {
    const { code, output } = await run(node, [builder], { cwd: repositoryRoot, env });
    if (code !== 0) throw new SetupError(`The guest kit could not be built:\n${lastLines(output)}`);
  });
}
