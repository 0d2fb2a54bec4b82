import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { text } from "node:stream/consumers";
import { beforeEach, describe, expect, it, test } from "vitest";
import { digestOf } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { startBerthd } from "../support/berthd.ts";
import { scratchDirectory } from "../support/scratch.ts";

const main = join(import.meta.dirname, "../../packages/daemon/src/main.ts");
const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn" };

let dataDir: string;
let store: string;

beforeEach(async () => {
  dataDir = join(await scratchDirectory("bad"), "data");
  store = join(dataDir, "berth.db");
  await using _berthd = await startBerthd({ dataDir, env });
});

/** Starts berthd where it cannot work; answers its exit code and its words. */
async function refused(settings: Readonly<Record<string, string>> = {}): Promise<{ code: number; words: string }> {
  const usual = { PATH: process.env.PATH, HOME: "/nonexistent", BERTH_DATA_DIR: dataDir, BERTH_LISTEN: "127.0.0.1:0" };
  const child = spawn(process.execPath, [main], {
    env: { ...usual, ...env, ...settings },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  expect(stdout).toBe("");
  return { code, words: stderr };
}

/** Every file of the data folder with its content's digest, but the lock, which says who had it last, and SQLite's companions, empty for one who only reads. */
function content(): Record<string, string> {
  const files = readdirSync(dataDir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    files
      .map(({ parentPath, name }) => join(parentPath, name))
      .filter((path) => !path.endsWith("/lock") && !(/-(wal|shm)$/.test(path) && isEmptyCompanion(path)))
      .map((path) => [path, digestOf(readFileSync(path))]),
  );
}

const isEmptyCompanion = (path: string) => path.endsWith("-shm") || statSync(path).size === 0;

async function expectUntouched(words: RegExp): Promise<void> {
  const before = content();
  const { code, words: said } = await refused();
  expect(said).toMatch(words);
  expect(said, "words for people, no stack").not.toMatch(/\n\s+at |Error:/);
  expect(said).toMatch(/^berthd: /);
  expect(code).toBe(1);
  expect(content()).toEqual(before);
}

describe("a store", () => {
  it("that is overwritten with something else", async () => {
    writeFileSync(store, "this was a store\n".repeat(1000));
    await expectUntouched(/is damaged .*Nothing was changed\. Put a backup/);
  });

  it("that is cut short", async () => {
    truncateSync(store, statSync(store).size - 3 * 4096);
    await expectUntouched(/is damaged .*Nothing was changed\. Put a backup/);
  });

  it("with a damaged page", async () => {
    const bytes = readFileSync(store);
    bytes.fill(0x5a, bytes.length - 3 * 4096);
    writeFileSync(store, bytes);
    await expectUntouched(/is damaged .*Nothing was changed\. Put a backup/);
  });

  it("of a newer version", async () => {
    {
      using database = new DatabaseSync(store);
      database.exec("insert into migration (name, checksum, applied_at) values ('9999-future', 'x', 1)");
      database.exec("pragma wal_checkpoint(truncate)");
    }
    await expectUntouched(/written by a newer version of berthd .*Run that version, or restore a backup/);
  });

  it("of an older berthd's migration that was edited since", async () => {
    {
      using database = new DatabaseSync(store);
      database.exec("update migration set checksum = 'other'");
      database.exec("pragma wal_checkpoint(truncate)");
    }
    await expectUntouched(/it was edited since\. Nothing was changed/);
  });
});

test("a full disk at the start is told in a sentence, and the next start with room goes on", async () => {
  const disk = await scratchDirectory("full");
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=16m,mode=0711", "tmpfs", disk]);
  try {
    const folder = join(disk, "data");
    const settings = { BERTH_DATA_DIR: folder };
    mkdirSync(folder, { mode: 0o711 });
    const ballast = join(disk, "ballast");
    expect(() => writeFileSync(ballast, Buffer.alloc(17 * 2 ** 20))).toThrow("ENOSPC");
    const { code, words } = await refused(settings);
    expect(words).toMatch(/^berthd: No space is left .*\n$/);
    expect(code).toBe(1);
    rmSync(ballast);
    await using berthd = await startBerthd({ dataDir: folder, env });
    expect((await berthd.client.listImages()).items).toEqual([]);
  } finally {
    execFileSync("umount", [disk]);
  }
});

describe("two daemons on one data folder", () => {
  it("the second is told so and touches nothing; the first goes on", async () => {
    await using first = await startBerthd({ dataDir, env });
    const settings = ["berth.db", "admin-token", "listen", "node.json"].map((name) => join(dataDir, name));
    const before = settings.map((path) => readFileSync(path, "base64"));
    const { code, words } = await refused();
    expect(words).toBe(
      `berthd: Another berthd works in ${dataDir}. Stop it first, or set BERTH_DATA_DIR to another folder.\n`,
    );
    expect(code).toBe(1);
    expect(settings.map((path) => readFileSync(path, "base64"))).toEqual(before);
    expect((await first.client.listNodes()).items).toHaveLength(1);
  });
});

describe("a setting that makes no sense here", () => {
  it.each([
    [
      "BERTH_LISTEN",
      "no-such-name.invalid:0",
      /^berthd: no-such-name\.invalid is a name that is not known here\..*\n$/,
    ],
    ["BERTH_LISTEN", "192.0.2.1:0", /^berthd: 192\.0\.2\.1 is not an address of this machine\..*\n$/],
    ["BERTH_ALLOW_HOSTS", "10.0.0.0/33", /^berthd: BERTH_ALLOW_HOSTS: "10\.0\.0\.0\/33" is not a host.*\n$/],
  ])("%s=%s stops berthd with one sentence", async (name, value, words) => {
    const { code, words: said } = await refused({ [name]: value });
    expect(said).toMatch(words);
    expect(code).toBe(1);
  });
});
