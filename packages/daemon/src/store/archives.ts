import { type Archive, ArchiveSource } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { readJson, toTimestamp } from "./json.ts";
import { newestFirst, type Page, type PageBounds, toPage } from "./page.ts";
import type { ArchiveTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";

/** An archive as the store knows it; its bytes are on the node. */
export type StoredArchive = Omit<Archive, "state" | "receivedBytes"> & { readonly nodeId: string };

export type NewArchive = Pick<
  StoredArchive,
  "id" | "project" | "nodeId" | "name" | "source" | "sizeBytes" | "beginning"
>;

/** What of an archive is learnt while it is written. */
export type ArchiveChanges = Partial<Pick<StoredArchive, "sizeBytes" | "beginning">>;

/** How long an archive is kept after it was made or last read, in milliseconds: a day. */
const keptMs = 24 * 3_600_000;
const itsEnd = sql<number>`berth_now() + ${keptMs}`;

const columns = [
  "archive.id",
  "archive.project",
  "archive.node_id",
  "archive.name",
  "archive.source",
  "archive.size_bytes",
  "archive.beginning",
  "archive.created_at",
  "archive.expires_at",
  sql<
    string | null
  >`(select operation_id from operation_claim where resource = 'archive:' || archive.id and held = 1)`.as(
    "operation_id",
  ),
] as const;

type ArchiveRow = Selectable<ArchiveTable> & { readonly operation_id: string | null };

function toArchive(row: ArchiveRow): StoredArchive {
  return {
    id: row.id,
    project: row.project,
    nodeId: row.node_id,
    name: row.name,
    source: readJson(ArchiveSource, row.source, "archive.source"),
    sizeBytes: row.size_bytes,
    beginning: row.beginning,
    operationId: row.operation_id,
    createdAt: toTimestamp(row.created_at),
    expiresAt: toTimestamp(row.expires_at),
  };
}

/** Adds an archive. */
export async function insertArchive(queries: Queries, archive: NewArchive): Promise<StoredArchive> {
  const row = await queries
    .insertInto("archive")
    .values({
      id: archive.id,
      project: archive.project,
      node_id: archive.nodeId,
      name: archive.name,
      source: JSON.stringify(archive.source),
      size_bytes: archive.sizeBytes,
      beginning: archive.beginning,
      created_at: sql<number>`berth_now()`,
      expires_at: itsEnd,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  return toArchive({ ...row, operation_id: null });
}

/** The archive with this id; undefined when there is none. */
export async function readArchive(queries: Queries, id: string): Promise<StoredArchive | undefined> {
  const row = await queries.selectFrom("archive").select(columns).where("archive.id", "=", id).executeTakeFirst();
  return row && toArchive(row);
}

/** A page of a project's archives, newest first. */
export async function listArchives(
  queries: Queries,
  options: PageBounds & { readonly project: string },
): Promise<Page<StoredArchive>> {
  const { project, cursor, limit } = options;
  const query = queries.selectFrom("archive").select(columns).where("archive.project", "=", project);
  return toPage(
    await newestFirst(query, { cursor, limit }).execute(),
    limit,
    (row) => [row.created_at, row.id],
    toArchive,
  );
}

/** A node's archives whose time is up and that no operation holds. */
export async function listExpiredArchives(queries: Queries, nodeId: string): Promise<StoredArchive[]> {
  const rows = await queries
    .selectFrom("archive")
    .select(columns)
    .where("archive.node_id", "=", nodeId)
    .where("archive.expires_at", "<=", sql<number>`berth_now()`)
    .execute();
  return rows.map(toArchive).filter(({ operationId }) => operationId === null);
}

/** Writes what was learnt of an archive; its time begins anew. Nothing happens when it is gone. */
export async function touchArchive(queries: Queries, id: string, changes: ArchiveChanges = {}): Promise<void> {
  await queries
    .updateTable("archive")
    .set({
      ...(changes.sizeBytes === undefined ? {} : { size_bytes: changes.sizeBytes }),
      ...(changes.beginning === undefined ? {} : { beginning: changes.beginning }),
      expires_at: itsEnd,
    })
    .where("id", "=", id)
    .execute();
}

/** Forgets an archive; nothing happens when it is already gone. */
export async function deleteArchive(tx: Transaction, id: string): Promise<void> {
  await tx.deleteFrom("archive").where("id", "=", id).execute();
}
