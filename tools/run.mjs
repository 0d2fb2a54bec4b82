// `npm start`, `npm test` and their like: makes the machine ready, then runs tools/<command>.ts under Node 24. This file and tools/setup/ are plain JavaScript, since
// they run on whatever Node there is (20 or newer). Each part of the set-up looks first and does nothing when there is nothing to do.
import { spawn } from "node:child_process";
import { dirname } from "node:path";
import { ensureDependencies } from "./setup/dependencies.mjs";
import { ensureDevices } from "./setup/devices.mjs";
import { ensureHostPackages } from "./setup/host-packages.mjs";
import { ensureNode } from "./setup/node.mjs";
import { phasesSoFar, SetupError } from "./setup/progress.mjs";
import { repositoryRoot } from "./setup/root.mjs";
import { ensureSubordinateIds } from "./setup/subordinate-ids.mjs";

/** Whose packages of the host a command needs, beyond Node and the dependencies. */
const commands = {
  start: "start",
  test: "test",
  "test-long": "test",
  ci: "test",
  bench: "bench",
  check: null,
  generate: null,
  format: null,
};

const [command = "", ...args] = process.argv.slice(2);
try {
  process.exitCode = await run(command, args);
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(`\n${error.message}`);
  process.exitCode = 1;
}

/**
 * @param {string} command
 * @param {string[]} args
 */
async function run(command, args) {
  if (!Object.hasOwn(commands, command))
    throw new SetupError(`npm run knows ${Object.keys(commands).join(", ")}; not "${command}".`);
  // What only a person can bring comes first: nobody should wait for downloads to be told.
  const setUp = commands[/** @type {keyof typeof commands} */ (command)];
  if (setUp) {
    await ensureHostPackages(setUp);
    ensureDevices(setUp);
    await ensureSubordinateIds(setUp);
  }
  const node = await ensureNode();
  /** @type {NodeJS.ProcessEnv} */
  const env = { ...process.env, PATH: `${dirname(node)}:${process.env.PATH}` };
  await ensureDependencies(env);
  env.BERTH_SETUP_PHASES = JSON.stringify(phasesSoFar());
  return await hand(node, [`tools/${command}.ts`, ...args], env);
}

/**
 * Runs the command and answers with its exit code. A terminal's Ctrl-C reaches it as it does us, so it alone decides; without a terminal a signal was sent
 * to us alone and is passed on.
 * @param {string} node
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<number>}
 */
function hand(node, args, env) {
  return new Promise((resolve, reject) => {
    const child = spawn(node, args, { cwd: repositoryRoot, env, stdio: "inherit" });
    process.on("SIGINT", () => process.stdin.isTTY || child.kill("SIGINT"));
    for (const signal of /** @type {const} */ (["SIGTERM", "SIGHUP"])) process.on(signal, () => child.kill(signal));
    child.once("error", reject);
    child.once("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : 1)));
  });
}
