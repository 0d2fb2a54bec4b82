import type { NewEvent } from "./events.ts";
import type { Transaction } from "./store.ts";

/** What a transaction leaves for its end: events, numbered as late as possible, and whom to wake once it is committed. */
export interface Pending {
  readonly events: NewEvent[];
  readonly topics: Set<string>;
}

const pendingByTransaction = new WeakMap<Transaction, Pending>();

/** Notes a transaction's begin. */
export function beginPending(tx: Transaction): Pending {
  const pending: Pending = { events: [], topics: new Set() };
  pendingByTransaction.set(tx, pending);
  return pending;
}

/** What an open transaction has left so far. */
export function pendingOf(tx: Transaction): Pending {
  const pending = pendingByTransaction.get(tx);
  if (!pending) throw new Error("events and wake-ups need a transaction of store.transaction()");
  return pending;
}

/** Wakes who waits for `topic`, on every daemon of the store, once the transaction is committed. */
export function wakeAfter(tx: Transaction, topic: string): void {
  pendingOf(tx).topics.add(topic);
}
