import type { Compilable, CompiledQuery } from "kysely";
import { refuseBesideTransaction } from "./inside-transaction.ts";
import type { Queries } from "./store.ts";

/** Stands for a value that is given later. */
class Hole {
  readonly index: number;

  constructor(index: number) {
    this.index = index;
  }
}

/** Reads at once, past Kysely; undefined when it cannot just now: a transaction is under way, and what it wrote so far is nobody else's. */
export type DirectRead = (text: string, parameters: readonly unknown[]) => unknown[] | undefined;

const directReads = new WeakMap<Queries, DirectRead>();

/** Lets what is prepared here be read directly when it is asked of `queries`. For stores that answer without waiting. */
export function readDirectly(queries: Queries, read: DirectRead): void {
  directReads.set(queries, read);
}

/**
 * A query whose SQL is made once instead of at each call, for what every request does: building it costs several times as much as running it on SQLite.
 * It only reads. `build` may use its values only as values in the query.
 */
export function prepare<Values extends readonly unknown[], Row>(
  build: (queries: Queries, ...values: Values) => Compilable<Row>,
): (queries: Queries, ...values: Values) => Promise<Row[]> {
  // Both dialects in one process happen in tests only.
  const compiledFor = new Map<unknown, CompiledQuery<Row>>();
  return async (queries, ...values) => {
    refuseBesideTransaction(queries);
    const dialect = queries.getExecutor().adapter.constructor;
    let compiled = compiledFor.get(dialect);
    if (!compiled) {
      compiled = build(queries, ...(values.map((_, index) => new Hole(index)) as unknown as Values)).compile();
      compiledFor.set(dialect, compiled);
    }
    const parameters = compiled.parameters.map((one) => (one instanceof Hole ? values[one.index] : one));
    const rows = directReads.get(queries)?.(compiled.sql, parameters) as Row[] | undefined;
    return rows ?? (await queries.executeQuery<Row>({ ...compiled, parameters })).rows;
  };
}
