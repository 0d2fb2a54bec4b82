import { type Selectable, sql } from "kysely";
import { z } from "zod";
import type { ArtifactTable } from "./schema.ts";
import type { Queries } from "./store.ts";

/** What an artifact is made from and for: the same key gives the same artifact. */
export interface ArtifactKey {
  readonly contentDigest: string;
  /** The builder's name and version: a new one makes a new artifact. */
  readonly builder: string;
  readonly format: string;
  readonly location: string;
}

/** A bootable file made from an image; always rebuildable. Times are milliseconds since the epoch. */
export interface Artifact extends ArtifactKey {
  readonly path: string;
  readonly sizeBytes: number;
  readonly state: "building" | "ready";
  readonly createdAt: number;
  readonly usedAt: number;
}

const ArtifactState = z.enum(["building", "ready"]);

function toArtifact(row: Selectable<ArtifactTable>): Artifact {
  return {
    contentDigest: row.content_digest,
    builder: row.builder,
    format: row.format,
    location: row.location,
    path: row.path,
    sizeBytes: row.size_bytes,
    state: ArtifactState.parse(row.state),
    createdAt: row.created_at,
    usedAt: row.used_at,
  };
}

function keyColumns(key: ArtifactKey) {
  return { content_digest: key.contentDigest, builder: key.builder, format: key.format, location: key.location };
}

/** The artifact of a key; undefined when there is none. */
export async function findArtifact(queries: Queries, key: ArtifactKey): Promise<Artifact | undefined> {
  const row = await queries
    .selectFrom("artifact")
    .selectAll()
    .where((eb) => eb.and(keyColumns(key)))
    .executeTakeFirst();
  return row && toArtifact(row);
}

/** Writes an artifact, in place of an earlier one of the same key. */
export async function saveArtifact(
  queries: Queries,
  artifact: Omit<Artifact, "createdAt" | "usedAt">,
): Promise<Artifact> {
  const now = sql<number>`berth_now()`;
  const content = { path: artifact.path, size_bytes: artifact.sizeBytes, state: artifact.state };
  const row = await queries
    .insertInto("artifact")
    .values({ ...keyColumns(artifact), ...content, created_at: now, used_at: now })
    .onConflict((conflict) =>
      conflict
        .columns(["content_digest", "builder", "format", "location"])
        .doUpdateSet({ ...content, created_at: now, used_at: now }),
    )
    .returningAll()
    .executeTakeFirstOrThrow();
  return toArtifact(row);
}

/** Notes that an artifact was used just now. */
export async function touchArtifact(queries: Queries, key: ArtifactKey): Promise<void> {
  await queries
    .updateTable("artifact")
    .set({ used_at: sql<number>`berth_now()` })
    .where((eb) => eb.and(keyColumns(key)))
    .execute();
}

/** The artifacts of one content, or all of them; those unused for longest first. */
export async function listArtifacts(queries: Queries, contentDigest?: string): Promise<Artifact[]> {
  let query = queries.selectFrom("artifact").selectAll().orderBy("used_at");
  if (contentDigest !== undefined) query = query.where("content_digest", "=", contentDigest);
  return (await query.execute()).map(toArtifact);
}

/** Forgets an artifact; nothing happens when it is already gone. */
export async function deleteArtifact(queries: Queries, key: ArtifactKey): Promise<void> {
  await queries
    .deleteFrom("artifact")
    .where((eb) => eb.and(keyColumns(key)))
    .execute();
}
