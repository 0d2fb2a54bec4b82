import { BerthError, Image, ImageSource, isId, StartConfig } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { isForeignKeyViolation } from "./errors.ts";
import { readJson, toTimestamp } from "./json.ts";
import { resourceOf } from "./operations.ts";
import { newestFirst, type Page, type PageBounds, toPage } from "./page.ts";
import type { ImageTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";

export type NewImage = Omit<Image, "references" | "createdAt">;

/** What of an image is learnt while it is made. */
export type ImageChanges = Partial<Omit<Image, "id" | "project" | "references" | "createdAt">>;

const { state: ImageState, kind: ImageKind, firmware: ImageFirmware } = Image.shape;

function toImage(row: Selectable<ImageTable>, references: readonly string[]): Image {
  return {
    id: row.id,
    project: row.project,
    references: [...references],
    source: readJson(ImageSource, row.source, "image.source"),
    state: ImageState.parse(row.state),
    reason: row.reason,
    contentDigest: row.content_digest,
    kind: ImageKind.parse(row.kind),
    os: row.os,
    architecture: row.architecture,
    firmware: ImageFirmware.parse(row.firmware),
    sizeBytes: row.size_bytes,
    startConfig: row.start_config === null ? null : readJson(StartConfig, row.start_config, "image.start_config"),
    operationId: row.operation_id,
    createdAt: toTimestamp(row.created_at),
  };
}

/** The columns of what is given; what is not given is left out. */
function toColumns(changes: ImageChanges): Partial<Selectable<ImageTable>> {
  const columns: { [name in keyof ImageTable]?: ImageTable[name] | undefined } = {
    source: changes.source && JSON.stringify(changes.source),
    state: changes.state,
    reason: changes.reason,
    content_digest: changes.contentDigest,
    kind: changes.kind,
    os: changes.os,
    architecture: changes.architecture,
    firmware: changes.firmware,
    size_bytes: changes.sizeBytes,
    start_config: changes.startConfig && JSON.stringify(changes.startConfig),
    operation_id: changes.operationId,
  };
  return Object.fromEntries(Object.entries(columns).filter(([, value]) => value !== undefined));
}

/** Adds an image that no reference names yet. */
export async function insertImage(queries: Queries, image: NewImage): Promise<Image> {
  const { source, state, reason, kind, os, architecture, firmware } = image;
  const now = sql<number>`berth_now()`;
  const row = await queries
    .insertInto("image")
    .values({
      id: image.id,
      project: image.project,
      source: JSON.stringify(source),
      state,
      reason,
      content_digest: image.contentDigest,
      kind,
      os,
      architecture,
      firmware,
      size_bytes: image.sizeBytes,
      start_config: image.startConfig && JSON.stringify(image.startConfig),
      operation_id: image.operationId,
      created_at: now,
      updated_at: now,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  return toImage(row, []);
}

/** The image of a project with this id, or named by this full reference; undefined when there is none. */
export async function findImage(queries: Queries, project: string, idOrReference: string): Promise<Image | undefined> {
  const row = await queries
    .selectFrom("image")
    .selectAll("image")
    .where("image.project", "=", project)
    .$if(isId(idOrReference), (query) => query.where("image.id", "=", idOrReference))
    .$if(!isId(idOrReference), (query) =>
      query.where("image.id", "in", (from) =>
        from
          .selectFrom("image_reference")
          .select("image_id")
          .where("project", "=", project)
          .where("reference", "=", idOrReference),
      ),
    )
    .executeTakeFirst();
  if (!row) return undefined;
  return toImage(row, (await readReferences(queries, [row.id])).get(row.id) ?? []);
}

/** The image with this id, whatever its project. */
export async function readImage(queries: Queries, id: string): Promise<Image | undefined> {
  const row = await queries.selectFrom("image").selectAll().where("id", "=", id).executeTakeFirst();
  return row && toImage(row, (await readReferences(queries, [id])).get(id) ?? []);
}

/** The ready image of a project with this content; undefined when there is none. */
export async function findImageByDigest(
  queries: Queries,
  project: string,
  contentDigest: string,
): Promise<Image | undefined> {
  const row = await queries
    .selectFrom("image")
    .select("id")
    .where("project", "=", project)
    .where("content_digest", "=", contentDigest)
    .where("state", "=", "ready")
    .orderBy("created_at")
    .limit(1)
    .executeTakeFirst();
  return row && readImage(queries, row.id);
}

async function readReferences(queries: Queries, ids: readonly string[]): Promise<Map<string, string[]>> {
  const byImage = new Map<string, string[]>();
  if (ids.length === 0) return byImage;
  const rows = await queries
    .selectFrom("image_reference")
    .select(["image_id", "reference"])
    .where("image_id", "in", ids)
    .orderBy("reference")
    .execute();
  for (const { image_id, reference } of rows) byImage.set(image_id, [...(byImage.get(image_id) ?? []), reference]);
  return byImage;
}

/** A page of images, newest first; of all projects when none is named. `reference` is a full one. */
export async function listImages(
  queries: Queries,
  options: PageBounds & {
    readonly project?: string | undefined;
    readonly reference?: string | undefined;
  },
): Promise<Page<Image>> {
  const { project, reference, cursor, limit } = options;
  let query = queries.selectFrom("image").selectAll();
  if (project !== undefined) query = query.where("project", "=", project);
  if (reference !== undefined) {
    query = query.where("id", "in", (from) =>
      from.selectFrom("image_reference").select("image_id").where("reference", "=", reference),
    );
  }
  const rows = await newestFirst(query, { cursor, limit }).execute();
  const references = await readReferences(
    queries,
    rows.map(({ id }) => id),
  );
  return toPage(
    rows,
    limit,
    (row) => [row.created_at, row.id],
    (row) => toImage(row, references.get(row.id) ?? []),
  );
}

/** Writes what was learnt of an image. Rejects with BerthError `not_found`. */
export async function updateImage(queries: Queries, id: string, changes: ImageChanges): Promise<Image> {
  const row = await queries
    .updateTable("image")
    .set({ ...toColumns(changes), updated_at: sql<number>`berth_now()` })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new BerthError("not_found", `There is no image ${id}.`);
  return toImage(row, (await readReferences(queries, [id])).get(id) ?? []);
}

/** Lets a full reference name this image from now on, and no other. */
export async function setImageReference(
  queries: Queries,
  project: string,
  reference: string,
  imageId: string,
): Promise<void> {
  await queries
    .insertInto("image_reference")
    .values({ project, reference, image_id: imageId, created_at: sql<number>`berth_now()` })
    .onConflict((conflict) => conflict.columns(["project", "reference"]).doUpdateSet({ image_id: imageId }))
    .execute();
}

/** Takes a reference from the image it names, if any. */
export async function deleteImageReference(queries: Queries, project: string, reference: string): Promise<void> {
  await queries
    .deleteFrom("image_reference")
    .where("project", "=", project)
    .where("reference", "=", reference)
    .execute();
}

/**
 * Forgets an image and its references; nothing happens when it is already gone. Rejects with BerthError `image_in_use` while an instance is made from it, or a
 * snapshot stands on it.
 */
export async function deleteImage(tx: Transaction, id: string): Promise<void> {
  try {
    await tx.deleteFrom("image").where("id", "=", id).execute();
  } catch (error) {
    if (!isForeignKeyViolation(error)) throw error;
    throw new BerthError("image_in_use", `Instances or snapshots are made from image ${id}.`, { cause: error });
  }
}

/** Forgets the images that came with imported instances, once no instance is made from them and no snapshot stands on them; only this one of them when it is named. */
export async function deleteUnusedImports(queries: Queries, id?: string): Promise<void> {
  await queries
    .deleteFrom("image")
    .where("source", "like", '{"type":"import"%')
    .where("id", "not in", (from) => from.selectFrom("instance").select("image_id"))
    .where("id", "not in", (from) => from.selectFrom("snapshot").select("image_id"))
    .$if(id !== undefined, (query) => query.where("id", "=", id ?? ""))
    .execute();
}

/** What an operation claims that is about to make an instance's disk from an image: as many may as like, and the image stays meanwhile. */
export function imageUse(imageId: string, instanceId: string): string {
  return resourceOf("image-use", `${imageId}/${instanceId}`);
}

/** The names of the instances made from an image, or about to be, and then of the snapshots of such, at most `limit`. */
export async function listImageUsers(queries: Queries, id: string, limit: number): Promise<string[]> {
  const instances = queries.selectFrom("instance").select("name").where("image_id", "=", id).limit(limit);
  const snapshots = queries.selectFrom("snapshot").select("name").where("image_id", "=", id).limit(limit);
  const rebuilds = queries
    .selectFrom("operation_claim")
    .innerJoin("operation", "operation.id", "operation_claim.operation_id")
    .select("operation.target_name as name")
    .where("operation_claim.resource", "like", `${imageUse(id, "")}%`)
    .limit(limit);
  const rows = [...(await instances.execute()), ...(await rebuilds.execute()), ...(await snapshots.execute())];
  return rows.slice(0, limit).map(({ name }) => name);
}

/** Whether a ready image of any project, other than one, has this content. */
export async function hasContent(
  queries: Queries,
  contentDigest: string,
  options: { readonly butNot: string },
): Promise<boolean> {
  const row = await queries
    .selectFrom("image")
    .select("id")
    .where("content_digest", "=", contentDigest)
    .where("id", "!=", options.butNot)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** The contents of all images of all projects, other than one. */
export async function listContentDigests(queries: Queries, options: { readonly butNot: string }): Promise<string[]> {
  const rows = await queries
    .selectFrom("image")
    .select("content_digest")
    .distinct()
    .where("content_digest", "is not", null)
    .where("id", "!=", options.butNot)
    .execute();
  return rows.flatMap(({ content_digest }) => content_digest ?? []);
}

/** Forgets images that failed before a time (milliseconds since the epoch). */
export async function deleteFailedImages(queries: Queries, failedBefore: number): Promise<void> {
  await failedImages(queries).where("updated_at", "<", failedBefore).execute();
}

/** Forgets failed attempts at an image of this source, once there is another. */
export async function deleteFailedAttempts(tx: Transaction, project: string, source: ImageSource): Promise<void> {
  await failedImages(tx).where("project", "=", project).where("source", "=", JSON.stringify(source)).execute();
}

/** A deletion of images that failed and that no instance waits for. */
function failedImages(queries: Queries) {
  return queries
    .deleteFrom("image")
    .where("state", "=", "failed")
    .where("id", "not in", (from) => from.selectFrom("instance").select("image_id"))
    .where("id", "not in", (from) => from.selectFrom("snapshot").select("image_id"));
}
