import { BerthError } from "@berth/api";
import { type SelectQueryBuilder, sql } from "kysely";
import { z } from "zod";

/** A page of a list; `nextCursor` is null on the last. */
export interface Page<T> {
  readonly rows: readonly T[];
  readonly nextCursor: string | null;
}

const AgeCursor = z.tuple([z.number().int(), z.string().max(64)]);
const SeqCursor = z.tuple([z.number().int()]);

/** Where a page by age goes on: after this creation time and id. */
export function readAgeCursor(cursor: string): { createdAt: number; id: string } {
  const [createdAt, id] = readCursor(AgeCursor, cursor);
  return { createdAt, id };
}

/** Where a page by number goes on. */
export function readSeqCursor(cursor: string): number {
  return readCursor(SeqCursor, cursor)[0];
}

function readCursor<T extends z.ZodType>(schema: T, cursor: string): z.output<T> {
  try {
    return schema.parse(JSON.parse(Buffer.from(cursor, "base64url").toString("utf8")));
  } catch {
    throw new BerthError("invalid_request", "The cursor is not one that a list has given.");
  }
}

/** What a request for a page says of it. */
export interface PageBounds {
  readonly cursor?: string | undefined;
  readonly limit: number;
}

/** The rows of a page, newest first, and one more: for a query of a table with `created_at` and `id`, and of no other that has those. `toPage` cuts it to the page. */
export function newestFirst<DB, Tables extends keyof DB, Row>(
  query: SelectQueryBuilder<DB, Tables, Row>,
  { cursor, limit }: PageBounds,
): SelectQueryBuilder<DB, Tables, Row> {
  const page = query
    .orderBy(sql.ref("created_at"), "desc")
    .orderBy(sql.ref("id"), "desc")
    .limit(limit + 1);
  if (cursor === undefined) return page;
  const last = readAgeCursor(cursor);
  return page.where(sql<boolean>`(created_at, id) < (${last.createdAt}, ${last.id})`);
}

/** Cuts the one row too many that was asked for, and makes the cursor of the next page from the last one kept. */
export function toPage<Row, T>(
  rows: readonly Row[],
  limit: number,
  sortKey: (row: Row) => readonly (number | string)[],
  map: (row: Row) => T,
): Page<T> {
  const kept = rows.slice(0, limit);
  const last = kept.at(-1);
  const more = rows.length > limit && last !== undefined;
  return {
    rows: kept.map(map),
    nextCursor: more ? Buffer.from(JSON.stringify(sortKey(last))).toString("base64url") : null,
  };
}
