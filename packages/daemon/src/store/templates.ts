import { createHash } from "node:crypto";
import { BerthError, Template, TemplateApp } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { z } from "zod";
import { shapeText, type TemplateShape } from "../core/template-shape.ts";
import { readJson, toTimestamp } from "./json.ts";
import { newestFirst, type Page, type PageBounds, toPage } from "./page.ts";
import type { TemplateTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";

const StoredShape = z.object({
  contentDigest: z.string(),
  cpus: z.number(),
  memoryMib: z.number(),
  disks: z.number(),
  interfaces: z.number(),
  build: z.string(),
  app: TemplateApp.nullable().default(null),
}) satisfies z.ZodType<TemplateShape>;

/** Whose template it is, and where: one of a shape each. */
export interface TemplatePlace {
  readonly project: string;
  readonly location: string;
  readonly shape: TemplateShape;
}

export type NewTemplate = TemplatePlace & Pick<Template, "id" | "nodeId" | "image" | "operationId">;

/** What of a template changes. */
export type TemplateChanges = Partial<Pick<Template, "state" | "reason" | "sizeBytes" | "operationId">> & {
  readonly failures?: number;
};

/** How often in a row a template could not be made, and when it last changed, in milliseconds since the epoch. */
export interface TemplateHistory {
  readonly failures: number;
  readonly updatedAt: number;
}

type TemplateRow = Selectable<TemplateTable>;

function toTemplate(row: TemplateRow): Template {
  return {
    id: row.id,
    project: row.project,
    state: Template.shape.state.parse(row.state),
    reason: row.reason,
    image: row.image,
    ...readShape(row.shape, "template.shape"),
    location: row.location,
    nodeId: row.node_id,
    sizeBytes: row.size_bytes,
    uses: row.uses,
    lastUsedAt: row.last_used_at === null ? null : toTimestamp(row.last_used_at),
    operationId: row.operation_id,
    createdAt: toTimestamp(row.created_at),
  };
}

/** A shape as it is stored. */
export function readShape(text: string, column: string): TemplateShape {
  return readJson(StoredShape, text, column);
}

/** The name of a shape among those of its project and location, and of who makes it. */
export function shapeKey(shape: TemplateShape): string {
  return createHash("sha256").update(shapeText(shape)).digest("hex");
}

/** Adds a template that is about to be made. */
export async function insertTemplate(tx: Transaction, template: NewTemplate): Promise<Template> {
  const now = sql<number>`berth_now()`;
  const row = await tx
    .insertInto("template")
    .values({
      id: template.id,
      project: template.project,
      location: template.location,
      node_id: template.nodeId,
      shape_key: shapeKey(template.shape),
      shape: JSON.stringify(template.shape),
      image: template.image,
      state: "building",
      reason: "",
      size_bytes: null,
      uses: 0,
      last_used_at: null,
      failures: 0,
      operation_id: template.operationId,
      created_at: now,
      updated_at: now,
    })
    .returningAll()
    .executeTakeFirstOrThrow();
  return toTemplate(row);
}

/** The template of a shape, with its history; undefined when there is none. */
export async function findTemplate(
  queries: Queries,
  { project, location, shape }: TemplatePlace,
): Promise<{ readonly template: Template; readonly history: TemplateHistory } | undefined> {
  const row = await queries
    .selectFrom("template")
    .selectAll()
    .where("project", "=", project)
    .where("location", "=", location)
    .where("shape_key", "=", shapeKey(shape))
    .executeTakeFirst();
  return row && { template: toTemplate(row), history: { failures: row.failures, updatedAt: row.updated_at } };
}

/** The template with this id, whatever its project; undefined when there is none. */
export async function readTemplate(queries: Queries, id: string): Promise<Template | undefined> {
  const row = await queries.selectFrom("template").selectAll().where("id", "=", id).executeTakeFirst();
  return row && toTemplate(row);
}

/** A page of templates, newest first; of all projects when none is named. */
export async function listTemplates(
  queries: Queries,
  options: PageBounds & {
    readonly project?: string | undefined;
    readonly nodeId?: string | undefined;
  },
): Promise<Page<Template>> {
  const { project, nodeId, cursor, limit } = options;
  let query = queries.selectFrom("template").selectAll();
  if (project !== undefined) query = query.where("project", "=", project);
  if (nodeId !== undefined) query = query.where("node_id", "=", nodeId);
  return toPage(
    await newestFirst(query, { cursor, limit }).execute(),
    limit,
    (row) => [row.created_at, row.id],
    toTemplate,
  );
}

/** Writes what came of making a template. Rejects with BerthError `not_found`. */
export async function updateTemplate(tx: Transaction, id: string, changes: TemplateChanges): Promise<Template> {
  const { state, reason, sizeBytes, operationId, failures } = changes;
  const row = await tx
    .updateTable("template")
    .set({
      ...(state === undefined ? {} : { state }),
      ...(reason === undefined ? {} : { reason }),
      ...(sizeBytes === undefined ? {} : { size_bytes: sizeBytes }),
      ...(operationId === undefined ? {} : { operation_id: operationId }),
      ...(failures === undefined ? {} : { failures }),
      updated_at: sql<number>`berth_now()`,
    })
    .where("id", "=", id)
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new BerthError("not_found", `There is no template ${id}.`);
  return toTemplate(row);
}

/** Writes down that a template could not be made, and why; how often that was so in a row is counted. */
export async function failTemplate(tx: Transaction, id: string, reason: string): Promise<void> {
  await tx
    .updateTable("template")
    .set((eb) => ({
      state: "failed",
      reason,
      size_bytes: null,
      failures: eb("failures", "+", 1),
      updated_at: sql<number>`berth_now()`,
    }))
    .where("id", "=", id)
    .execute();
}

/** Counts one more machine cloned from a template; nothing happens when it is gone. */
export async function countTemplateUse(tx: Transaction, id: string): Promise<void> {
  await tx
    .updateTable("template")
    .set((eb) => ({ uses: eb("uses", "+", 1), last_used_at: sql<number>`berth_now()` }))
    .where("id", "=", id)
    .execute();
}

/** Forgets a template; nothing happens when it is already gone. */
export async function deleteTemplate(tx: Transaction, id: string): Promise<void> {
  await tx.deleteFrom("template").where("id", "=", id).execute();
}
