import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import { Kysely, type Transaction as KyselyTransaction, PostgresDialect, sql } from "kysely";
import { isConflict, isDiskFull, StoreError } from "./errors.ts";
import { writeEvents } from "./events.ts";
import { besideTransaction, isInsideTransaction, runInsideTransaction } from "./inside-transaction.ts";
import { type DialectName, migrate } from "./migrate.ts";
import { beginPending } from "./pending.ts";
import { listen, notifyChannel, openPool } from "./postgres.ts";
import { readDirectly } from "./prepared.ts";
import type { Database } from "./schema.ts";
import { openSqliteFile } from "./sqlite.ts";
import { WakeChannel } from "./wake.ts";

/** A connection or transaction; queries take either. */
export type Queries = Kysely<Database>;
export type Transaction = KyselyTransaction<Database>;

/** Where the daemon's memory is: a file of its own, or a PostgreSQL that several daemons share. */
export type StoreLocation =
  | { readonly kind: "sqlite"; readonly path: string }
  | { readonly kind: "postgres"; readonly url: string };

export interface StoreOptions {
  /** SQLite's clock, milliseconds since the epoch; PostgreSQL has its own. */
  readonly clock?: () => number;
  /** Told of broken connections, which are mended by themselves. */
  readonly onError?: (error: Error) => void;
}

/** The daemon's memory. */
export interface Store {
  readonly dialect: DialectName;
  /** Single statements, each a transaction of its own. Never used inside `transaction`: there it throws. */
  readonly queries: Queries;
  /**
   * All or nothing. `work` is run again, from its beginning, when another transaction was in its way, so it must touch nothing but the transaction; and
   * since SQLite has one writer, it must wait for nothing else. Rejects with BerthError `disk_full` when nothing can be written.
   */
  transaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
  /** The store's clock, milliseconds since the epoch: the same for all daemons on it. */
  now(): Promise<number>;
  /** Wake-ups after commits: see `wakeAfter`. */
  readonly wake: WakeChannel;
  close(): Promise<void>;
}

/** How often a transaction is begun before another one in its way counts as an error. */
const maxAttempts = 12;

/** Opens the store and brings it up to this version. Rejects with a StoreError, nothing changed, when it is damaged or of a newer version. */
export async function openStore(location: StoreLocation, options: StoreOptions = {}): Promise<Store> {
  return location.kind === "sqlite" ? openSqlite(location.path, options) : openPostgres(location.url, options);
}

async function openSqlite(path: string, options: StoreOptions): Promise<Store> {
  const { dialect, read } = openSqliteFile(path, options.clock ?? Date.now);
  const store = await finishOpening("sqlite", new Kysely({ dialect }), path, new WakeChannel(), async () => undefined);
  readDirectly(store.queries, read);
  return store;
}

async function openPostgres(url: string, options: StoreOptions): Promise<Store> {
  const onError = options.onError ?? (() => undefined);
  const place = describeUrl(url);
  const db = new Kysely<Database>({ dialect: new PostgresDialect({ pool: openPool(url, onError) }) });
  const wake = new WakeChannel();
  const stop = new AbortController();
  const listening = listen(url, wake, stop.signal, onError);
  return finishOpening("postgres", db, place, wake, async () => {
    stop.abort();
    await listening;
  });
}

/** The address without its password. */
function describeUrl(url: string): string {
  if (!URL.canParse(url))
    throw new StoreError("The store's address is not a URL such as postgres://user@host/database.");
  const { host, pathname } = new URL(url);
  return `${host}${pathname}`;
}

async function finishOpening(
  dialect: DialectName,
  db: Kysely<Database>,
  place: string,
  wake: WakeChannel,
  stop: () => Promise<void>,
): Promise<Store> {
  const close = async () => {
    await stop();
    await db.destroy();
  };
  try {
    await migrate(db, dialect, place);
  } catch (error) {
    await close();
    if (error instanceof StoreError) throw error;
    throw new StoreError(`The store ${place} cannot be opened: ${(error as Error).message}`, { cause: error });
  }
  const queries = db.withPlugin(besideTransaction);
  return {
    dialect,
    queries,
    transaction: (work) => runTransaction(db, dialect, wake, work),
    now: () => readClock(queries),
    wake,
    close,
  };
}

/** The store's clock, as a query sees it. */
export async function readClock(queries: Queries): Promise<number> {
  const { rows } = await sql<{ now: number }>`select berth_now() as now`.execute(queries);
  return rows[0]?.now ?? Number.NaN;
}

async function runTransaction<T>(
  db: Kysely<Database>,
  dialect: DialectName,
  wake: WakeChannel,
  work: (tx: Transaction) => Promise<T>,
): Promise<T> {
  if (isInsideTransaction()) throw new Error("a transaction inside a transaction");
  for (let attempt = 1; ; attempt++) {
    try {
      const { result, topics } = await runOnce(db, dialect, work);
      for (const topic of topics) wake.emit(topic);
      return result;
    } catch (error) {
      if (isDiskFull(error)) {
        throw new BerthError("disk_full", "The store cannot be written: no space is left.", { cause: error });
      }
      if (!isConflict(error) || attempt === maxAttempts) throw error;
      await delay(Math.random() * Math.min(500, 5 * 2 ** attempt));
    }
  }
}

function runOnce<T>(db: Kysely<Database>, dialect: DialectName, work: (tx: Transaction) => Promise<T>) {
  return db.transaction().execute((tx) =>
    runInsideTransaction(async () => {
      const pending = beginPending(tx);
      const result = await work(tx);
      await writeEvents(tx, pending.events);
      if (pending.events.length > 0) pending.topics.add("events");
      if (dialect === "postgres") {
        for (const topic of pending.topics) await sql`select pg_notify(${notifyChannel}, ${topic})`.execute(tx);
      }
      return { result, topics: pending.topics };
    }),
  );
}
