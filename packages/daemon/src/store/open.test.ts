import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { sql } from "kysely";
import { describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { StoreError } from "./errors.ts";
import { checksumOf } from "./migrate.ts";
import { migrations } from "./migrations/index.ts";
import { writeSetting } from "./settings.ts";
import { openStore } from "./store.ts";

const folder = await scratchDirectory("open");
let stores = 0;

/** A store that was used and closed. */
async function madeStore(): Promise<string> {
  const path = join(folder, `${stores++}.db`);
  const store = await openStore({ kind: "sqlite", path });
  await store.transaction(async (tx) => {
    for (let index = 0; index < 200; index++) await writeSetting(tx, `setting ${index}`, "x".repeat(200));
  });
  await store.close();
  return path;
}

/** Opens a store that must be refused, and proves that it was left as it was. */
async function refusal(path: string): Promise<string> {
  const before = readFileSync(path);
  const error = await openStore({ kind: "sqlite", path }).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(StoreError);
  expect(readFileSync(path).equals(before)).toBe(true);
  return (error as StoreError).message;
}

describe("opening a store", () => {
  test("keeps it to its owner, companion files too", async () => {
    const path = join(folder, "private.db");
    const store = await openStore({ kind: "sqlite", path });
    await writeSetting(store.queries, "a", 1);
    for (const suffix of ["", "-wal", "-shm"]) expect(statSync(path + suffix).mode & 0o777).toBe(0o600);
    await store.close();
  });

  test("makes every commit durable", async () => {
    const path = join(folder, "durable.db");
    const store = await openStore({ kind: "sqlite", path });
    const read = async (name: string) =>
      Object.values((await sql.raw<object>(`pragma ${name}`).execute(store.queries)).rows[0] ?? {});
    expect(await read("journal_mode")).toEqual(["wal"]);
    // 2 is FULL.
    expect(await read("synchronous")).toEqual([2]);
    expect(await read("foreign_keys")).toEqual([1]);
    await store.close();
  });

  test("refuses a file that is no store", async () => {
    const path = join(folder, "text.db");
    writeFileSync(path, "not a database, but of some length, so that there is something to read".repeat(20));
    expect(await refusal(path)).toContain("is damaged");
  });

  test("refuses a store cut short, and says what to do", async () => {
    const path = await madeStore();
    truncateSync(path, statSync(path).size - 3 * 4096);
    expect(await refusal(path)).toMatch(/is damaged .* Put a backup of it in its place/);
  });

  test("refuses a store with a page overwritten", async () => {
    const path = await madeStore();
    const bytes = readFileSync(path);
    bytes.fill(0x5a, bytes.length - 2 * 4096);
    writeFileSync(path, bytes);
    expect(await refusal(path)).toContain("is damaged");
  });

  test("refuses a store of a newer version", async () => {
    const path = await madeStore();
    change(path, "insert into migration (name, checksum, applied_at) values ('9999-future', 'x', 1)");
    expect(await refusal(path)).toMatch(/written by a newer version of berthd \(it has 9999-future/);
  });

  test("refuses a migration that was edited after its release", async () => {
    const path = await madeStore();
    change(path, "update migration set checksum = 'other'");
    expect(await refusal(path)).toMatch(/The migration 0001-first is not the one that made the store/);
  });

  test("a migration's layout may change, what it does may not", () => {
    const digest = (statement: string) => checksumOf({ name: "m", statements: () => [statement] }, "sqlite");
    expect(digest("create table a (\n  id text\n)")).toBe(digest("create table a ( id text )"));
    expect(digest("create table a (id text)")).not.toBe(digest("create table a (id integer)"));
  });

  test("goes on where a store of this version was left", async () => {
    const path = await madeStore();
    const store = await openStore({ kind: "sqlite", path });
    expect(await store.queries.selectFrom("setting").selectAll().execute()).toHaveLength(200);
    expect(await store.queries.selectFrom("migration").selectAll().execute()).toHaveLength(migrations.length);
    await store.close();
  });

  test("reads the clock it was given", async () => {
    const store = await openStore({ kind: "sqlite", path: join(folder, "clock.db") }, { clock: () => 42 });
    expect(await store.now()).toBe(42);
    await store.close();
  });
});

function change(path: string, statement: string): void {
  using database = new DatabaseSync(path);
  database.exec(statement);
}
