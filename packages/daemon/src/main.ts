import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Config, ConfigError, readConfig, readDataDir } from "./config.ts";
import { startDaemon } from "./daemon.ts";
import { isNoSpace } from "./host/host.ts";
import { openLog } from "./log.ts";
import { purge } from "./purge.ts";
import { readSettingsFile } from "./settings-file.ts";
import { isDiskFull, StoreError } from "./store/errors.ts";

const repositoryRoot = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const { version } = JSON.parse(readFileSync(join(repositoryRoot, "package.json"), "utf8")) as { version: string };

/** Ends with words for a person and no stack: what is wrong is outside of berthd. */
function refuse(message: string): never {
  process.stderr.write(`berthd: ${message}\n`);
  process.exit(1);
}

const uid = process.getuid?.() ?? 0;

async function main([command, ...more]: readonly string[]): Promise<void> {
  if (command === undefined) return serve(readConfig(process.env, uid, repositoryRoot, readSettingsFile));
  // Other settings do not matter to it, so one that makes no sense does not stop it.
  if (command === "purge" && more.length === 0)
    return purge(readDataDir(process.env, uid), (line) => process.stderr.write(`${line}\n`));
  refuse(
    "it is run without arguments, or as: berthd purge. Settings come from the environment and berthd.env: docs/settings.md.",
  );
}

async function serve(config: Config): Promise<void> {
  // What others may read is decided file by file; the users of builds and guests must reach what is made for them, whatever umask berthd was started with.
  process.umask(0o022);
  const log = openLog(config.logLevel, 1);
  const daemon = await startDaemon(config, log, version);
  const stop = (signal: NodeJS.Signals) => {
    log.info({ signal }, "berthd is stopping; its instances go on");
    daemon.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error({ err: error }, "berthd did not stop cleanly");
        process.exit(1);
      },
    );
  };
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof ConfigError || error instanceof StoreError) refuse(error.message);
  if (isNoSpace(error) || isDiskFull(error))
    refuse("No space is left on the disk of its data folder or store. Make room and start it again; nothing is lost.");
  throw error;
}
