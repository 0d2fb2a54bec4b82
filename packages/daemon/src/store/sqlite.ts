import { closeSync, existsSync, openSync, statSync } from "node:fs";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  SqliteDialect,
  type SqliteDialectConfig,
  SqliteDriver,
  type SqliteStatement,
} from "kysely";
import { StoreError, sqliteCode } from "./errors.ts";
import { checkVersion } from "./migrate.ts";
import type { DirectRead } from "./prepared.ts";

/** How many answers are kept while nothing is written. */
const maxRemembered = 500;

/** How many prepared statements are kept; the daemon has fewer different ones. */
const maxStatements = 500;

/**
 * Kysely's SQLite dialect over Node's own SQLite, and a way past Kysely for what is read all the time. A file that is damaged, no database, or of a newer version is refused before anything is written to it.
 * One connection does everything: it is synchronous, a durable commit costs some 70 microseconds.
 */
export function openSqliteFile(path: string, clock: () => number): { dialect: SqliteDialect; read: DirectRead } {
  if (existsSync(path) && statSync(path).size > 0) examine(path);
  // Environments of instances stand in it: nobody else may read it. SQLite gives its companion files the same mode.
  else closeSync(openSync(path, "a", 0o600));
  const database = new DatabaseSync(path);
  database.exec("pragma journal_mode = wal; pragma synchronous = full");
  database.exec("pragma busy_timeout = 5000; pragma foreign_keys = on");
  database.function("berth_now", () => clock());
  const remembered = new RememberedRows((text) => prepare(text));
  const prepare = cachedPrepare(database, () => remembered.forget());
  return {
    dialect: new ImmediateSqliteDialect(
      { database: { prepare, close: () => database.close() } },
      () => database.isTransaction,
    ),
    read: (text, parameters) => (database.isTransaction ? undefined : remembered.read(text, parameters)),
  };
}

/** Reads an existing file without changing it. */
function examine(path: string): void {
  try {
    using database = new DatabaseSync(path, { readOnly: true });
    database.exec("pragma busy_timeout = 5000");
    const [row] = database.prepare("pragma quick_check(1)").all();
    const verdict = String(row?.quick_check);
    if (verdict !== "ok") throw new StoreError(damaged(path, verdict));
    const tables = database.prepare("select 1 from sqlite_schema where name = 'migration'").all();
    if (tables.length === 0) return;
    checkVersion(
      database.prepare("select name, checksum from migration").all() as unknown as Applied[],
      "sqlite",
      path,
    );
  } catch (error) {
    // SQLITE_CORRUPT, SQLITE_NOTADB.
    if ([11, 26].includes(sqliteCode(error) ?? 0))
      throw new StoreError(damaged(path, String((error as Error).message)));
    throw error;
  }
}

type Applied = Parameters<typeof checkVersion>[0][number];

function damaged(path: string, verdict: string): string {
  return (
    `The store ${path} is damaged (${verdict.replaceAll(/\s+/g, " ")}). Nothing was changed. Put a backup of it in its place, or move it and its -wal and -shm files away to ` +
    "begin with an empty store; the instances' disks stay, but berthd will no longer know them."
  );
}

/** What Kysely asks of a database, on Node's: statements are prepared once. */
function cachedPrepare(database: DatabaseSync, onWrite: () => void): (text: string) => SqliteStatement {
  const statements = new Map<string, SqliteStatement>();
  return (text) => {
    const known = statements.get(text);
    if (known) return known;
    if (statements.size >= maxStatements) statements.clear();
    const statement = toKysely(database.prepare(text), /^select\b/i.test(text) ? undefined : onWrite);
    statements.set(text, statement);
    return statement;
  };
}

/** `onRun` is called each time before it runs. */
function toKysely(statement: StatementSync, onRun?: () => void): SqliteStatement {
  const values = (parameters: readonly unknown[]) => {
    onRun?.();
    return parameters as SQLInputValue[];
  };
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...values(parameters)),
    run: (parameters) => statement.run(...values(parameters)),
    iterate: (parameters) => statement.iterate(...values(parameters)),
  };
}

/**
 * The rows of what was read directly since this connection last wrote anything. The daemon holds its data folder's lock, so nobody else writes; what a person
 * does to the file meanwhile shows after the daemon's next write, which is never a minute away.
 */
class RememberedRows {
  readonly #prepare: (text: string) => SqliteStatement;
  /** By the query's text, which is the same string each time, then by its parameters: one key of both would be a long string to make for each read. */
  readonly #rows = new Map<string, Map<string, unknown[]>>();
  #count = 0;

  constructor(prepare: (text: string) => SqliteStatement) {
    this.#prepare = prepare;
  }

  read(text: string, parameters: readonly unknown[]): unknown[] {
    const key = parameters.join("\0");
    const known = this.#rows.get(text)?.get(key);
    if (known) return known;
    const rows = this.#prepare(text).all(parameters);
    // What hangs on the time is another answer each time.
    if (!text.includes("berth_now")) this.#remember(text, key, rows);
    return rows;
  }

  #remember(text: string, key: string, rows: unknown[]): void {
    if (this.#count >= maxRemembered) this.forget();
    const ofText = this.#rows.get(text) ?? new Map<string, unknown[]>();
    this.#rows.set(text, ofText.set(key, rows));
    this.#count += 1;
  }

  forget(): void {
    this.#rows.clear();
    this.#count = 0;
  }
}

/** Takes the write lock when a transaction begins, so that it never has to give up halfway because another process writes. */
class ImmediateSqliteDialect extends SqliteDialect {
  readonly #config: SqliteDialectConfig;
  readonly #isOpen: () => boolean;

  /** `isOpen` says whether a transaction is open. */
  constructor(config: SqliteDialectConfig, isOpen: () => boolean) {
    super(config);
    this.#config = config;
    this.#isOpen = isOpen;
  }

  override createDriver(): Driver {
    return new ImmediateSqliteDriver(this.#config, this.#isOpen);
  }
}

class ImmediateSqliteDriver extends SqliteDriver {
  readonly #isOpen: () => boolean;

  constructor(config: SqliteDialectConfig, isOpen: () => boolean) {
    super(config);
    this.#isOpen = isOpen;
  }

  override async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw("begin immediate"));
  }

  /** SQLite takes a transaction back by itself when no space is left (lang_transaction.html); to ask once more would be an error, and hide that one. */
  override async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    if (this.#isOpen()) await super.rollbackTransaction(connection);
  }
}
