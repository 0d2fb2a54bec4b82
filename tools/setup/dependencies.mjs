import { readFileSync } from "node:fs";
import { join } from "node:path";
import { lastLines, run } from "./programs.mjs";
import { phase, SetupError } from "./progress.mjs";
import { repositoryRoot } from "./root.mjs";

/**
 * Runs `npm ci` unless what npm installed last is what the lock file asks for.
 * @param {NodeJS.ProcessEnv} env with Node 24 first in PATH
 */
export async function ensureDependencies(env) {
  if (isInstalled(readJson("package-lock.json"), readJson("node_modules/.package-lock.json"))) return;
  await phase("npm ci", async () => {
    const { code, output } = await run("npm", ["ci"], { cwd: repositoryRoot, env });
    if (code !== 0) throw new SetupError(`npm ci failed:\n${lastLines(output)}`);
  });
}

/**
 * Whether npm's own record of node_modules (written when it is done) has every package of the lock file in the same version. Packages for another platform are
 * marked optional and may be missing.
 * @param {any} wanted package-lock.json
 * @param {any} installed node_modules/.package-lock.json; undefined when npm never finished
 */
export function isInstalled(wanted, installed) {
  if (!installed) return false;
  return Object.entries(wanted.packages).every(([path, one]) => {
    if (!path.includes("node_modules/")) return true;
    const there = installed.packages[path];
    return there ? there.version === one.version && there.integrity === one.integrity : one.optional === true;
  });
}

/** @param {string} path */
function readJson(path) {
  try {
    return JSON.parse(readFileSync(join(repositoryRoot, path), "utf8"));
  } catch {
    return undefined;
  }
}
