import { AsyncLocalStorage } from "node:async_hooks";
import type { Kysely, KyselyPlugin } from "kysely";
import type { Database } from "./schema.ts";

const inside = new AsyncLocalStorage<true>();

/** Runs what a transaction does. */
export function runInsideTransaction<T>(work: () => Promise<T>): Promise<T> {
  return inside.run(true, work);
}

export function isInsideTransaction(): boolean {
  return inside.getStore() === true;
}

/** A query beside the open transaction would wait for ever for it on SQLite, and not see it on PostgreSQL. Both are mistakes to learn of at once. */
export function refuseBesideTransaction(queries: Kysely<Database>): void {
  if (!queries.isTransaction) refuse();
}

/** The same for the queries that Kysely builds. */
export const besideTransaction: KyselyPlugin = {
  transformQuery: ({ node }) => {
    refuse();
    return node;
  },
  transformResult: async ({ result }) => result,
};

function refuse(): void {
  if (isInsideTransaction()) throw new Error("a query beside the open transaction: use the transaction's own");
}
