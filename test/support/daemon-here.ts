import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Client, createClient } from "@berth/api";
import { readConfig } from "../../packages/daemon/src/config.ts";
import { startDaemon } from "../../packages/daemon/src/daemon.ts";
import { openLog } from "../../packages/daemon/src/log.ts";
import { readSettingsFile } from "../../packages/daemon/src/settings-file.ts";
import { type BerthdOptions, makeDataFolder, settingsOf } from "./berthd.ts";

const repositoryRoot = join(import.meta.dirname, "../..");

/** The whole of berthd in the test's own process. */
export interface DaemonHere extends AsyncDisposable {
  readonly url: string;
  readonly client: Client;
  /** What it wrote so far. */
  log(): string;
}

/**
 * Starts all that makes berthd, but no process: it takes a fraction of the time, for tests that need hundreds of them and neither kill it nor look at it as a program. The environment is
 * the test's own, with the settings given.
 */
export async function startDaemonHere(options: Pick<BerthdOptions, "dataDir" | "env">): Promise<DaemonHere> {
  const { dataDir } = options;
  makeDataFolder(options);
  const config = readConfig(settingsOf(options), process.getuid?.() ?? 0, repositoryRoot, readSettingsFile);
  const logPath = `${dataDir}.log`;
  const daemon = await startDaemon(config, openLog(config.logLevel, logPath), "0.0.0");
  const token = readFileSync(join(dataDir, "admin-token"), "utf8").trim();
  return {
    url: daemon.url,
    client: createClient({ url: daemon.url, token }),
    log: () => readFileSync(logPath, "utf8"),
    [Symbol.asyncDispose]: () => daemon.stop(),
  };
}
