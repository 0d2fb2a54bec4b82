import type { Event, EventGap } from "@berth/api";
import { sql } from "kysely";
import { z } from "zod";
import { readJson, toTimestamp } from "./json.ts";
import { pendingOf } from "./pending.ts";
import type { Queries, Store, Transaction } from "./store.ts";

/** A fact to be recorded: its number and time are given when its transaction ends. */
export type NewEvent = Omit<Event, "seq" | "at">;

/** Which events are wanted; all of them when nothing is said. */
export interface EventFilter {
  readonly project?: string | undefined;
  readonly type?: string | undefined;
  /** The id of what it happened to. */
  readonly subject?: string | undefined;
}

/** Wakes who follows events. */
const topic = "events";

/** Records a fact together with the transaction. Events are numbered when it ends, in commit order and without gaps. */
export function appendEvent(tx: Transaction, event: NewEvent): void {
  pendingOf(tx).events.push(event);
}

/**
 * Numbers and writes a transaction's events; its last statement but the commit. The counter's row stays locked until then, so that numbers are seen in their order
 * by every reader, and a transaction that is rolled back leaves no gap.
 */
export async function writeEvents(tx: Transaction, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  const { value } = await tx
    .updateTable("counter")
    .set((eb) => ({ value: eb("value", "+", events.length) }))
    .where("name", "=", "event")
    .returning("value")
    .executeTakeFirstOrThrow();
  await tx
    .insertInto("event")
    .values(
      events.map((event, index) => ({
        seq: value - events.length + index + 1,
        type: event.type,
        project: event.project,
        subject_kind: event.subject.kind,
        subject_id: event.subject.id,
        subject_name: event.subject.name,
        operation_id: event.operationId,
        data: JSON.stringify(event.data),
        at: sql<number>`berth_now()`,
      })),
    )
    .execute();
}

/** The events after number `after`, oldest first, at most `limit`; `next` is the number to go on after. */
export async function readEvents(
  queries: Queries,
  options: EventFilter & { readonly after: number; readonly limit: number },
): Promise<{ items: Event[]; next: number }> {
  let query = queries
    .selectFrom("event")
    .selectAll()
    .where("seq", ">", options.after)
    .orderBy("seq")
    .limit(options.limit);
  if (options.project !== undefined) query = query.where("project", "=", options.project);
  if (options.type !== undefined) query = query.where("type", "=", options.type);
  if (options.subject !== undefined) query = query.where("subject_id", "=", options.subject);
  const rows = await query.execute();
  return { items: rows.map(toEvent), next: rows.at(-1)?.seq ?? options.after };
}

const EventData = z.record(z.string(), z.json());

function toEvent(row: {
  seq: number;
  type: string;
  project: string;
  subject_kind: string;
  subject_id: string;
  subject_name: string;
  operation_id: string | null;
  data: string;
  at: number;
}): Event {
  return {
    seq: row.seq,
    type: row.type,
    project: row.project,
    subject: { kind: row.subject_kind, id: row.subject_id, name: row.subject_name },
    operationId: row.operation_id,
    data: readJson(EventData, row.data, "event.data"),
    at: toTimestamp(row.at),
  };
}

/** The number of the newest event; 0 when there is none yet. */
export async function lastEventSeq(queries: Queries): Promise<number> {
  const row = await queries.selectFrom("counter").select("value").where("name", "=", "event").executeTakeFirstOrThrow();
  return row.value;
}

/** What is missing after number `after`; null when nothing is. To be asked after the events were read, since they may be forgotten in between. */
export async function findEventGap(queries: Queries, after: number): Promise<EventGap | null> {
  const newest = await lastEventSeq(queries);
  if (after > newest) return { after, next: newest };
  const oldest = await queries.selectFrom("event").select("seq").orderBy("seq").limit(1).executeTakeFirst();
  const before = (oldest?.seq ?? newest + 1) - 1;
  return before > after ? { after, next: before } : null;
}

/** Every event after number `after`, then each new one as it is committed, until aborted. What is not kept any more is passed over. */
export async function* followEvents(
  store: Store,
  options: EventFilter & { readonly after: number },
  signal: AbortSignal,
): AsyncGenerator<Event, void> {
  for await (const one of followEventsAndGaps(store, options, signal)) if ("seq" in one) yield one;
}

/** As `followEvents`, and tells what is not kept any more before what comes after it. */
export async function* followEventsAndGaps(
  store: Store,
  { after: begin, ...filter }: EventFilter & { readonly after: number },
  signal: AbortSignal,
): AsyncGenerator<Event | EventGap, void> {
  const batch = 500;
  const { queries } = store;
  let after = begin;
  let first = true;
  using subscription = store.wake.subscribe(topic);
  while (!signal.aborted) {
    // All up to here was looked at below, whether or not it fits the filter.
    const newest = Object.keys(filter).length > 0 ? await lastEventSeq(queries) : 0;
    const { items, next } = await readEvents(queries, { ...filter, after, limit: batch });
    const skipped = items[0] !== undefined && items[0].seq !== after + 1;
    const gap = first || skipped ? await findEventGap(queries, after) : null;
    first = false;
    if (gap) yield gap;
    for (const event of items) {
      if (signal.aborted) return;
      yield event;
    }
    const whole = items.length < batch;
    after = gap && gap.next < after ? gap.next : Math.max(next, whole ? newest : 0);
    if (whole) await subscription.wait(signal);
  }
}

/**
 * Forgets all but the newest `keep` events, and those older than `maxAgeMs`, the oldest first: what is kept has no gaps, whatever the clock did. Numbers are never used
 * again.
 */
export async function pruneEvents(queries: Queries, limits: { readonly keep: number; readonly maxAgeMs: number }) {
  const newest = await lastEventSeq(queries);
  const young = await queries
    .selectFrom("event")
    .select("seq")
    .where("at", ">=", sql<number>`berth_now() - ${limits.maxAgeMs}`)
    .orderBy("seq")
    .limit(1)
    .executeTakeFirst();
  const first = Math.max(newest - limits.keep + 1, young?.seq ?? newest + 1);
  await queries.deleteFrom("event").where("seq", "<", first).execute();
}
