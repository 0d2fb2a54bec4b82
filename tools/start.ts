import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { ApiError, BerthError, type Client, UnreachableError } from "@berth/api";
import { ConfigError, readConfig } from "../packages/daemon/src/config.ts";
import { ProgramError } from "../packages/daemon/src/host/host.ts";
import { readSettingsFile } from "../packages/daemon/src/settings-file.ts";
import { phase, phasesSoFar } from "./setup/progress.mjs";
import { ensureBerthd, lastWords, logOf, StartError } from "./start/berthd.ts";
import { prepareHelloImage } from "./start/hello-image.ts";
import { awaitPage, ensureHelloImage, ensureHelloInstance } from "./start/hello-instance.ts";
import { ensureGuestKit } from "./support/guest-kit.ts";
import { repositoryRoot } from "./support/parts.ts";

// `npm start`: berthd, a first image, a first instance, and what to try next. Whatever is there already is used as it is.
const config = (() => {
  try {
    return readConfig(process.env, process.getuid?.() ?? 0, repositoryRoot, readSettingsFile);
  } catch (error) {
    return end(error);
  }
})();

const log = logOf(config.dataDir);
/** The berthd started here; undefined while there is none, and when one was running already. */
let child: ChildProcess | undefined;
let stopping = false;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);

try {
  await ensureGuestKit();
  const client = await phase("berthd", () =>
    ensureBerthd(config.dataDir, log, (started) => {
      child = started;
    }),
  );
  await first(client);
  if (child) await stay(child);
} catch (error) {
  if (!stopping) {
    child?.kill("SIGTERM");
    end(error);
  }
}

/** The first instance, from nothing to a page in the browser. */
async function first(client: Client): Promise<void> {
  const image = prepareHelloImage();
  await phase("the image hello, built from examples/hello", () => ensureHelloImage(client, image));
  const instance = await phase("the instance hello", () => ensureHelloInstance(client, image));
  const page = await phase("its web page", () => awaitPage(instance));
  const earlier = JSON.parse(process.env.BERTH_SETUP_PHASES ?? "[]") as { name: string; ms: number }[];
  const times = [...earlier, ...phasesSoFar()];
  const folder = config.dataDir.replace(homedir(), "~");
  const firstPassword = "initial-admin-password";
  const isUnused = existsSync(join(config.dataDir, firstPassword));
  const firstUser = isUnused
    ? `\n  First user       admin, whose password is in ${folder}/${firstPassword} until it is used`
    : "";
  console.log(`
Berth is up${child ? "" : " (berthd was running already)"}.

  Your first VM    ${page}
  API reference    ${client.url}/docs
  Token            ${folder}/admin-token  (npx berth finds it by itself)${firstUser}

Try next:
  npx berth ls
  npx berth shell hello
  npx berth launch nginx --name web -p 8081:80

${times.map(({ name, ms }) => `  ${(ms / 1000).toFixed(1).padStart(6)} s  ${name}`).join("\n")}`);
}

/** As long as the berthd that was started here runs. */
async function stay(child: ChildProcess): Promise<void> {
  console.log("\nCtrl-C stops berthd; the VMs keep running.");
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  if (stopping) return;
  if (child.exitCode !== 0) throw new StartError(lastWords(log));
  console.log("\nberthd was stopped from elsewhere.");
}

/** Ctrl-C, wherever we are. A berthd that was running before is left alone. */
function stop(): void {
  if (stopping) return;
  stopping = true;
  if (!child) process.exit(130);
  console.log(
    "\nberthd is stopping. The VMs keep running: npm start finds them again, npx berth purge removes everything.",
  );
  child.once("exit", () => process.exit(0));
  child.kill("SIGTERM");
}

/** Errors made for people are shown as they are; anything else is a mistake of ours and shows where. */
function end(error: unknown): never {
  const forPeople = [StartError, ConfigError, ApiError, BerthError, ProgramError, UnreachableError].some(
    (kind) => error instanceof kind,
  );
  console.error(`\n${forPeople ? (error as Error).message : ((error as Error).stack ?? error)}`);
  process.exit(1);
}
