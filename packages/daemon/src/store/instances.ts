import {
  BerthError,
  type Instance,
  InstanceOrigin,
  type InstancePhase,
  InstanceSpec,
  InstanceStatus,
  isId,
  type Labels,
  type PublishedPort,
} from "@berth/api";
import { type Selectable, sql } from "kysely";
import { z } from "zod";
import { OpenChanges, pendingFields, wishesOf } from "../core/change-instance.ts";
import { InstanceRun } from "../core/instance-run.ts";
import { isUniqueViolation } from "./errors.ts";
import { readJson, toTimestamp } from "./json.ts";
import { isPostgres } from "./operation-claims.ts";
import { type Page, readAgeCursor, toPage } from "./page.ts";
import { prepare } from "./prepared.ts";
import { rememberByRow } from "./remember.ts";
import type { InstanceTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";

/** A driver's handle as it is stored: a versioned object whose content only the driver knows. */
const StoredHandle = z.looseObject({ version: z.number() });
export type StoredHandle = z.infer<typeof StoredHandle>;

export type NewInstance = Pick<
  Instance,
  "id" | "project" | "name" | "labels" | "imageId" | "image" | "origin" | "location" | "nodeId" | "spec" | "status"
> & {
  /** The folder of frozen files that its disks are made from; null when they are made from the image. */
  readonly layers: string | null;
  readonly memory: SavedMemory | null;
};

/** What of an instance can change. A change of name, spec or labels raises its generation. */
export interface InstanceChanges {
  readonly name?: string;
  readonly spec?: InstanceSpec;
  readonly labels?: z.infer<typeof Labels>;
  readonly status?: InstanceStatus;
  readonly handle?: StoredHandle | null;
  /** What the run that begins now is started with. */
  readonly run?: InstanceRun;
  readonly openChanges?: OpenChanges | null;
  /** Another image that its disks come from by now. */
  readonly image?: { readonly id: string; readonly reference: string };
  readonly memory?: SavedMemory | null;
}

/** Memory of another moment, in a folder of frozen files, that an instance goes on from once. */
const SavedMemory = z.object({
  folder: z.string(),
  /** Whether it has gone on from it. */
  used: z.boolean(),
  /** What its guest is told of where it comes from. */
  origin: z.object({
    kind: z.enum(["fork", "restore"]),
    parent: z.object({ id: z.string(), name: z.string() }).nullable(),
    index: z.number().int(),
  }),
});
export type SavedMemory = z.infer<typeof SavedMemory>;

/** A label an instance must have; with any value when none is given. */
export interface LabelFilter {
  readonly key: string;
  readonly value?: string | undefined;
}

const StoredLabels = z.record(z.string(), z.string());

/** Phases in which there is no run that could lack what is wished for. */
const withoutRun: readonly InstancePhase[] = ["pending", "provisioning", "stopped", "failed", "deleting"];

/** All of an instance but its handle, and the operation that holds it. */
const columns = [
  "instance.id",
  "instance.project",
  "instance.name",
  "instance.labels",
  "instance.image_id",
  "instance.image",
  "instance.origin",
  "instance.location",
  "instance.node_id",
  "instance.spec",
  "instance.status",
  "instance.run",
  "instance.generation",
  "instance.created_at",
  "instance.updated_at",
  sql<
    string | null
  >`(select operation_id from operation_claim where resource = 'instance:' || instance.id and held = 1)`.as(
    "operation_id",
  ),
] as const;

type InstanceRow = Omit<Selectable<InstanceTable>, "handle" | "phase" | "open_changes" | "layers" | "memory"> & {
  readonly operation_id: string | null;
};

/** Reading a row apart and checking it costs as much as asking for it, and most rows are asked for again before they change. Nobody can change what is shared. */
const toInstance = rememberByRow<InstanceRow, Instance>(readRow);

function readRow(row: InstanceRow): Instance {
  const wished = {
    name: row.name,
    labels: readJson(StoredLabels, row.labels, "instance.labels"),
    spec: readJson(InstanceSpec, row.spec, "instance.spec"),
  };
  const status = readJson(InstanceStatus, row.status, "instance.status");
  const run =
    row.run === null || withoutRun.includes(status.phase) ? null : readJson(InstanceRun, row.run, "instance.run");
  return {
    ...wished,
    id: row.id,
    project: row.project,
    imageId: row.image_id,
    image: row.image,
    origin: row.origin === null ? null : readJson(InstanceOrigin, row.origin, "instance.origin"),
    location: row.location,
    nodeId: row.node_id,
    generation: row.generation,
    status: { ...status, pending: run ? pendingFields(wishesOf(wished), run) : [] },
    operationId: row.operation_id,
    createdAt: toTimestamp(row.created_at),
    updatedAt: toTimestamp(row.updated_at),
  };
}

/** Adds an instance. Rejects with BerthError `name_taken`. */
export async function insertInstance(tx: Transaction, instance: NewInstance): Promise<Instance> {
  const now = sql<number>`berth_now()`;
  const row = await tx
    .insertInto("instance")
    .values({
      id: instance.id,
      project: instance.project,
      name: instance.name,
      labels: JSON.stringify(instance.labels),
      image_id: instance.imageId,
      image: instance.image,
      location: instance.location,
      node_id: instance.nodeId,
      spec: JSON.stringify(instance.spec),
      status: statusText(instance.status),
      phase: instance.status.phase,
      handle: null,
      origin: instance.origin && JSON.stringify(instance.origin),
      layers: instance.layers,
      memory: instance.memory && JSON.stringify(instance.memory),
      generation: 1,
      created_at: now,
      updated_at: now,
    })
    .onConflict((conflict) => conflict.columns(["project", "name"]).doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new BerthError("name_taken", `There is already an instance named ${instance.name}.`);
  await writeLabels(tx, row, instance.labels);
  return toInstance({ ...row, operation_id: null });
}

/** What is pending follows from the row each time it is read. */
function statusText({ pending: _, ...status }: InstanceStatus): string {
  return JSON.stringify(status);
}

async function writeLabels(
  tx: Transaction,
  row: { id: string; project: string; created_at: number },
  labels: Readonly<Record<string, string>>,
): Promise<void> {
  await tx.deleteFrom("instance_label").where("instance_id", "=", row.id).execute();
  const rows = Object.entries(labels).map(([key, value]) => ({
    instance_id: row.id,
    key,
    value,
    project: row.project,
    created_at: row.created_at,
  }));
  if (rows.length > 0) await tx.insertInto("instance_label").values(rows).execute();
}

const selectById = prepare((queries, id: string) =>
  queries.selectFrom("instance").select(columns).where("instance.id", "=", id),
);
const selectByName = prepare((queries, project: string, name: string) =>
  queries.selectFrom("instance").select(columns).where("project", "=", project).where("name", "=", name),
);

/** The instance of a project with this id or name; undefined when there is none. */
export async function findInstance(queries: Queries, project: string, idOrName: string): Promise<Instance | undefined> {
  const [row] = isId(idOrName) ? await selectById(queries, idOrName) : await selectByName(queries, project, idOrName);
  return row?.project === project ? toInstance(row) : undefined;
}

/** The instance with this id, whatever its project. */
export async function readInstance(queries: Queries, id: string): Promise<Instance | undefined> {
  const [row] = await selectById(queries, id);
  return row && toInstance(row);
}

/**
 * As `readInstance`, and nobody else changes its row until the transaction ends: for changes that follow from what is read. On PostgreSQL another transaction could
 * otherwise write between the two, and be written over. Comes after `startOperation`, so that rows are locked in one order.
 */
export async function lockInstance(tx: Transaction, id: string): Promise<Instance | undefined> {
  if (isPostgres(tx)) await tx.selectFrom("instance").select("id").where("id", "=", id).forUpdate().execute();
  return readInstance(tx, id);
}

const selectHandle = prepare((queries, id: string) =>
  queries.selectFrom("instance").select("handle").where("id", "=", id),
);

/** The driver's handle of an instance; null when it has none, or there is no such instance. */
export async function readHandle(queries: Queries, id: string): Promise<StoredHandle | null> {
  const [row] = await selectHandle(queries, id);
  return row?.handle ? readJson(StoredHandle, row.handle, "instance.handle") : null;
}

/** What the present or last run of an instance was started with; null when it never ran. */
export async function readRun(queries: Queries, id: string): Promise<InstanceRun | null> {
  const row = await queries.selectFrom("instance").select("run").where("id", "=", id).executeTakeFirst();
  return row?.run ? readJson(InstanceRun, row.run, "instance.run") : null;
}

/** The changes of an instance that have not ended; null when there are none. */
export async function readOpenChanges(queries: Queries, id: string): Promise<OpenChanges | null> {
  const row = await queries.selectFrom("instance").select("open_changes").where("id", "=", id).executeTakeFirst();
  return row?.open_changes ? readJson(OpenChanges, row.open_changes, "instance.open_changes") : null;
}

/** The folder of frozen files that an instance's disks are made from; null when they are made from its image, or there is no such instance. */
export async function readLayers(queries: Queries, id: string): Promise<string | null> {
  const row = await queries.selectFrom("instance").select("layers").where("id", "=", id).executeTakeFirst();
  return row?.layers ?? null;
}

/** What an instance's next start, or its present run, goes on from; null for none but its own or a template's memory. */
export async function readSavedMemory(queries: Queries, id: string): Promise<SavedMemory | null> {
  const row = await queries.selectFrom("instance").select("memory").where("id", "=", id).executeTakeFirst();
  return row?.memory ? readJson(SavedMemory, row.memory, "instance.memory") : null;
}

/** The folders whose memory a node's instances are still to go on from. */
export async function listAwaitedMemory(queries: Queries, nodeId: string): Promise<string[]> {
  return (await listSavedMemory(queries, nodeId)).flatMap(({ folder, used }) => (used ? [] : [folder]));
}

/** The folders that children of forks have gone on from: what is in them does not change any more. */
export async function listForkFolders(queries: Queries, nodeId: string): Promise<string[]> {
  const saved = await listSavedMemory(queries, nodeId);
  return [...new Set(saved.flatMap(({ folder, used, origin }) => (used && origin.kind === "fork" ? [folder] : [])))];
}

async function listSavedMemory(queries: Queries, nodeId: string): Promise<SavedMemory[]> {
  const rows = await queries
    .selectFrom("instance")
    .select("memory")
    .where("node_id", "=", nodeId)
    .where("memory", "is not", null)
    .execute();
  return rows.flatMap(({ memory }) => (memory === null ? [] : [readJson(SavedMemory, memory, "instance.memory")]));
}

/** A node's instances that were made from frozen files: from which folder, and which disks they have. */
export async function listInstanceLayers(
  queries: Queries,
  nodeId: string,
): Promise<{ readonly id: string; readonly layers: string; readonly disks: readonly string[] }[]> {
  const rows = await queries
    .selectFrom("instance")
    .select(["id", "layers", "spec"])
    .where("node_id", "=", nodeId)
    .where("layers", "is not", null)
    .execute();
  return rows.flatMap(({ id, layers, spec }) => {
    const disks = readJson(InstanceSpec, spec, "instance.spec").disks.map(({ name }) => name);
    return layers === null ? [] : [{ id, layers, disks }];
  });
}

/** The ids of a node's instances in these phases, of all projects, newest first. */
export async function listInstanceIds(
  queries: Queries,
  options: { readonly nodeId: string; readonly phases: readonly InstancePhase[] },
): Promise<string[]> {
  const rows = await queries
    .selectFrom("instance")
    .select("id")
    .where("node_id", "=", options.nodeId)
    .where("phase", "in", options.phases)
    .orderBy("created_at", "desc")
    .execute();
  return rows.map(({ id }) => id);
}

/** A page of a project's instances, newest first; of all projects when none is named. */
export async function listInstances(
  queries: Queries,
  options: {
    readonly project?: string | undefined;
    readonly labels?: readonly LabelFilter[] | undefined;
    readonly phase?: InstancePhase | undefined;
    readonly nodeId?: string | undefined;
    readonly cursor?: string | undefined;
    readonly limit: number;
  },
): Promise<Page<Instance>> {
  const { project, phase, nodeId, cursor, limit } = options;
  const [first, ...others] = options.labels ?? [];
  // The first label's own table has the order of the list, so that a rare label is found without reading every instance.
  const createdAt = sql.ref<number>(first ? "label.created_at" : "instance.created_at");
  const id = sql.ref<string>(first ? "label.instance_id" : "instance.id");
  let query = queries
    .selectFrom("instance")
    .select(columns)
    .$if(first !== undefined, (all) =>
      all
        .innerJoin("instance_label as label", "label.instance_id", "instance.id")
        .where("label.key", "=", first?.key ?? "")
        .$if(first?.value !== undefined, (labelled) => labelled.where("label.value", "=", first?.value ?? ""))
        .$if(project !== undefined, (labelled) => labelled.where("label.project", "=", project ?? "")),
    )
    .orderBy(createdAt, "desc")
    .orderBy(id, "desc")
    .limit(limit + 1);
  if (project !== undefined) query = query.where("instance.project", "=", project);
  if (phase !== undefined) query = query.where("instance.phase", "=", phase);
  if (nodeId !== undefined) query = query.where("instance.node_id", "=", nodeId);
  for (const label of others) query = query.where(hasLabel(label));
  if (cursor !== undefined) {
    const last = readAgeCursor(cursor);
    query = query.where(sql<boolean>`(${createdAt}, ${id}) < (${last.createdAt}, ${last.id})`);
  }
  return toPage(await query.execute(), limit, (row) => [row.created_at, row.id], toInstance);
}

function hasLabel({ key, value }: LabelFilter) {
  const rightValue = value === undefined ? sql`true` : sql`value = ${value}`;
  return sql<boolean>`exists (select 1 from instance_label where instance_id = instance.id and key = ${key} and ${rightValue})`;
}

/**
 * Changes an instance and answers with it as it is then. Rejects with BerthError `not_found`, `name_taken`, or `precondition_failed` when its generation is not
 * `expectedGeneration`.
 */
export async function updateInstance(
  tx: Transaction,
  id: string,
  changes: InstanceChanges,
  expectedGeneration?: number,
): Promise<Instance> {
  const { name, spec, labels, status, handle, run, openChanges, image, memory } = changes;
  const row = await tx
    .updateTable("instance")
    .set((eb) => ({
      ...(name ? { name } : {}),
      ...(spec ? { spec: JSON.stringify(spec) } : {}),
      ...(labels ? { labels: JSON.stringify(labels) } : {}),
      ...(name || spec || labels ? { generation: eb("generation", "+", 1) } : {}),
      ...(status ? { status: statusText(status), phase: status.phase } : {}),
      ...(handle === undefined ? {} : { handle: handle && JSON.stringify(handle) }),
      ...(run ? { run: JSON.stringify(run) } : {}),
      ...(openChanges === undefined ? {} : { open_changes: openChanges && JSON.stringify(openChanges) }),
      ...(image ? { image_id: image.id, image: image.reference } : {}),
      ...(memory === undefined ? {} : { memory: memory && JSON.stringify(memory) }),
      updated_at: sql<number>`berth_now()`,
    }))
    .where("id", "=", id)
    .$if(expectedGeneration !== undefined, (query) => query.where("generation", "=", expectedGeneration ?? 0))
    .returning(columns)
    .executeTakeFirst()
    .catch((error: unknown) => {
      if (!isUniqueViolation(error)) throw error;
      throw new BerthError("name_taken", `There is already an instance named ${name}.`, { cause: error });
    });
  if (!row) {
    const present = await tx.selectFrom("instance").select("generation").where("id", "=", id).executeTakeFirst();
    if (!present) throw new BerthError("not_found", `There is no instance ${id}.`);
    throw new BerthError("precondition_failed", `The instance has generation ${present.generation}.`);
  }
  if (labels) await writeLabels(tx, row, labels);
  return toInstance(row);
}

/** Forgets an instance; nothing happens when it is already gone. */
export async function deleteInstance(tx: Transaction, id: string): Promise<void> {
  await tx.deleteFrom("instance").where("id", "=", id).execute();
}

/** The host ports that a node's instances hold, other than one; stopped ones included. */
export async function listPublishedPorts(
  queries: Queries,
  options: { readonly nodeId: string; readonly butNot: string },
): Promise<PublishedPort[]> {
  const rows = await queries
    .selectFrom("instance")
    .select("status")
    .where("node_id", "=", options.nodeId)
    .where("id", "!=", options.butNot)
    .execute();
  return rows.flatMap(({ status }) => readJson(InstanceStatus, status, "instance.status").ports);
}
