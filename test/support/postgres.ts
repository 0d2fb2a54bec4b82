import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chownSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { inject } from "vitest";
import { openPool } from "../../packages/daemon/src/store/postgres.ts";
import { openStore } from "../../packages/daemon/src/store/store.ts";
import { postgresFolder } from "./stop-postgres.ts";

/** Where Debian keeps PostgreSQL's programs, a folder per major version. */
const versionsFolder = "/usr/lib/postgresql";
const superuser = "berth";
const template = "berth_template";

/** A new database on the run's own PostgreSQL, which the first caller starts; the address to open it by. With `empty`, without Berth's tables. */
export async function createDatabase({ empty = false } = {}): Promise<string> {
  const folder = postgresFolder(inject("runFolder"));
  await startOnce(folder);
  const name = `t_${randomBytes(6).toString("hex")}`;
  await execute(folder, `create database ${name} template ${empty ? "template0" : template}`);
  return address(folder, name);
}

/** The settings of a berthd on a new store of this kind: an embedded one in its data folder, or a new database. */
export async function storeSettings(kind: "sqlite" | "postgres"): Promise<{ BERTH_STORE?: string }> {
  return kind === "postgres" ? { BERTH_STORE: await createDatabase() } : {};
}

function address(folder: string, database: string): string {
  return `postgres://${superuser}@localhost/${database}?host=${encodeURIComponent(folder)}`;
}

async function execute(folder: string, statement: string): Promise<void> {
  const pool = openPool(address(folder, "postgres"), () => undefined);
  try {
    await pool.query(statement);
  } finally {
    await pool.end();
  }
}

/** Test files run in processes of their own: the one that makes the folder starts the server, the others wait for its word. */
async function startOnce(folder: string): Promise<void> {
  const ready = join(folder, "ready");
  const failed = join(folder, "failed");
  if (makeFolder(folder)) {
    try {
      await start(folder);
      writeFileSync(ready, "");
    } catch (error) {
      writeFileSync(failed, String((error as Error).stack));
    }
  }
  while (!existsSync(ready)) {
    if (existsSync(failed)) throw new Error(`PostgreSQL could not be started: ${readFileSync(failed, "utf8")}`);
    await delay(20);
  }
}

function makeFolder(folder: string): boolean {
  try {
    mkdirSync(folder, { mode: 0o700 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    return false;
  }
}

async function start(folder: string): Promise<void> {
  const programs = findPrograms();
  // PostgreSQL refuses to run as root; Debian's packages make a user for it.
  const user = process.getuid?.() === 0 ? findUser("postgres") : undefined;
  if (user) chownSync(folder, user.uid, user.gid);
  const data = join(folder, "data");
  const init = ["-D", data, "-U", superuser, "--auth=trust", "--no-sync", "--locale=C", "--encoding=UTF8"];
  await promisify(execFile)(join(programs, "initdb"), init, { ...user, cwd: folder });

  const log = openSync(join(folder, "log"), "a");
  // Nothing here outlives the run, so nothing waits for the disk.
  const settings = ["listen_addresses=", "fsync=off", "max_connections=200", "shared_buffers=32MB", "timezone=UTC"];
  const server = spawn(
    join(programs, "postgres"),
    ["-D", data, "-k", folder, ...settings.flatMap((setting) => ["-c", setting])],
    { ...user, cwd: folder, detached: true, stdio: ["ignore", log, log] },
  );
  server.unref();
  await waitUntilItAnswers(folder, () => server.exitCode !== null);
  await execute(folder, `create database ${template} template template0`);
  await (await openStore({ kind: "postgres", url: address(folder, template) })).close();
}

async function waitUntilItAnswers(folder: string, hasEnded: () => boolean): Promise<void> {
  for (;;) {
    try {
      return await execute(folder, "select 1");
    } catch (error) {
      if (hasEnded()) throw new Error(readFileSync(join(folder, "log"), "utf8"), { cause: error });
      await delay(20);
    }
  }
}

function findPrograms(): string {
  const versions = existsSync(versionsFolder) ? readdirSync(versionsFolder) : [];
  const newest = versions
    .map(Number)
    .filter((version) => existsSync(join(versionsFolder, String(version), "bin", "initdb")))
    .sort((a, b) => b - a)[0];
  if (newest === undefined) throw new Error("PostgreSQL is not installed: apt-get install postgresql");
  return join(versionsFolder, String(newest), "bin");
}

/** A user's ids, from /etc/passwd (passwd(5)). */
function findUser(name: string): { uid: number; gid: number } {
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((one) => one.startsWith(`${name}:`));
  if (!line) throw new Error(`there is no user ${name}`);
  const [, , uid, gid] = line.split(":");
  return { uid: Number(uid), gid: Number(gid) };
}
