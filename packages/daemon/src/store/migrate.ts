import { createHash } from "node:crypto";
import { type Kysely, sql } from "kysely";
import { StoreError } from "./errors.ts";
import { type MigrationFile, migrations, type SqlWords } from "./migrations/index.ts";
import type { Database } from "./schema.ts";

export type DialectName = "sqlite" | "postgres";

const words: Record<DialectName, SqlWords> = {
  sqlite: { integer: "integer", serial: "integer primary key autoincrement", strict: "strict" },
  postgres: { integer: "bigint", serial: "bigint generated always as identity primary key", strict: "" },
};

/** The digest of what a migration does on a store: its statements, whatever their layout. */
export function checksumOf(migration: MigrationFile, dialect: DialectName): string {
  const statements = migration.statements(words[dialect]).map((statement) => statement.replaceAll(/\s+/g, " ").trim());
  return createHash("sha256").update(statements.join(";\n")).digest("hex");
}

/**
 * Compares what a store says was done to it with what this version would have done. Throws a StoreError when a newer version has been here, or a
 * migration was edited after it was released.
 */
export function checkVersion(
  applied: readonly { readonly name: string; readonly checksum: string }[],
  dialect: DialectName,
  place: string,
): void {
  for (const { name, checksum } of applied) {
    const migration = migrations.find((one) => one.name === name);
    if (!migration) {
      throw new StoreError(
        `The store ${place} was written by a newer version of berthd (it has ${name}, which this one does not know). Nothing was changed. ` +
          "Run that version, or restore a backup made by this one.",
      );
    }
    if (checksum !== checksumOf(migration, dialect)) {
      throw new StoreError(
        `The migration ${name} is not the one that made the store ${place}: it was edited since. Nothing was changed. Restore the file as it was released.`,
      );
    }
  }
}

/** Brings the store up to this version, in one transaction: all of it or nothing, and one daemon at a time. */
export async function migrate(db: Kysely<Database>, dialect: DialectName, place: string): Promise<void> {
  await db.transaction().execute(async (tx) => {
    if (dialect === "postgres") await preparePostgres(tx);
    const { strict, integer } = words[dialect];
    await sql
      .raw(
        `create table if not exists migration (name text primary key, checksum text not null, applied_at ${integer} not null) ${strict}`,
      )
      .execute(tx);
    const applied = await tx.selectFrom("migration").select(["name", "checksum"]).execute();
    checkVersion(applied, dialect, place);
    for (const migration of migrations) {
      if (applied.some(({ name }) => name === migration.name)) continue;
      for (const statement of migration.statements(words[dialect])) await sql.raw(statement).execute(tx);
      await tx
        .insertInto("migration")
        .values({ name: migration.name, checksum: checksumOf(migration, dialect), applied_at: sql`berth_now()` })
        .execute();
    }
  });
}

/** Lets one daemon migrate at a time, and gives PostgreSQL the clock function that SQLite gets from us. */
async function preparePostgres(db: Kysely<Database>): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtextextended('berth migration', 0))`.execute(db);
  const present = await sql`select 1 from pg_proc where proname = 'berth_now'`.execute(db);
  if (present.rows.length > 0) return;
  await sql`create function berth_now() returns bigint language sql stable as
    'select floor(extract(epoch from clock_timestamp()) * 1000)::bigint'`.execute(db);
}
