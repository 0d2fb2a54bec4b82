import { BerthError, InstanceSpec, isId, Snapshot, type SnapshotVerification } from "@berth/api";
import { type Selectable, sql } from "kysely";
import { deleteUnusedImports } from "./images.ts";
import { readJson, toTimestamp } from "./json.ts";
import { newestFirst, type Page, type PageBounds, toPage } from "./page.ts";
import type { SnapshotTable } from "./schema.ts";
import type { Queries, Transaction } from "./store.ts";

const { kind: Kind, consistency: Consistency, state: State, disks: Disks } = Snapshot.shape;
const { verdict: Verdict } = Snapshot.shape.verification.shape;

export type NewSnapshot = Pick<
  Snapshot,
  | "id"
  | "project"
  | "name"
  | "instanceId"
  | "instanceName"
  | "automatic"
  | "kind"
  | "consistency"
  | "imageId"
  | "image"
  | "location"
  | "nodeId"
  | "spec"
  | "disks"
> & {
  /** The folder of its frozen files. */
  readonly folder: string;
};

/** What of a snapshot can change, beside its sizes. */
export interface SnapshotChanges {
  readonly state?: Snapshot["state"];
  readonly consistency?: Snapshot["consistency"];
  readonly memoryBytes?: number;
  readonly disks?: Snapshot["disks"];
  /** Its time is the store's. */
  readonly verification?: Pick<SnapshotVerification, "verdict" | "reason">;
}

const operationId = sql<
  string | null
>`(select operation_id from operation_claim where resource = 'snapshot:' || snapshot.id and held = 1)`.as(
  "operation_id",
);

type SnapshotRow = Selectable<SnapshotTable> & { readonly operation_id: string | null };

function toSnapshot(row: SnapshotRow): Snapshot {
  return {
    id: row.id,
    name: row.name,
    project: row.project,
    instanceId: row.instance_id,
    instanceName: row.instance_name,
    automatic: row.automatic === 1,
    kind: Kind.parse(row.kind),
    consistency: Consistency.parse(row.consistency),
    state: State.parse(row.state),
    imageId: row.image_id,
    image: row.image,
    location: row.location,
    nodeId: row.node_id,
    spec: readJson(InstanceSpec, row.spec, "snapshot.spec"),
    disks: readJson(Disks, row.disks, "snapshot.disks"),
    memoryBytes: row.memory_bytes,
    ownBytes: row.own_bytes + row.memory_bytes,
    sharedBytes: row.shared_bytes,
    verification: {
      verdict: Verdict.parse(row.verdict),
      reason: row.verdict_reason,
      at: row.verified_at === null ? null : toTimestamp(row.verified_at),
    },
    operationId: row.operation_id,
    createdAt: toTimestamp(row.created_at),
  };
}

/** Adds a snapshot that is being made. Rejects with BerthError `name_taken`. */
export async function insertSnapshot(tx: Transaction, snapshot: NewSnapshot): Promise<Snapshot> {
  const row = await tx
    .insertInto("snapshot")
    .values({
      id: snapshot.id,
      project: snapshot.project,
      name: snapshot.name,
      instance_id: snapshot.instanceId,
      instance_name: snapshot.instanceName,
      automatic: snapshot.automatic ? 1 : 0,
      kind: snapshot.kind,
      consistency: snapshot.consistency,
      state: "creating",
      image_id: snapshot.imageId,
      image: snapshot.image,
      location: snapshot.location,
      node_id: snapshot.nodeId,
      spec: JSON.stringify(snapshot.spec),
      disks: JSON.stringify(snapshot.disks),
      folder: snapshot.folder,
      memory_bytes: 0,
      own_bytes: 0,
      shared_bytes: 0,
      verdict: "unverified",
      verdict_reason: "",
      verified_at: null,
      created_at: sql<number>`berth_now()`,
    })
    .onConflict((conflict) => conflict.columns(["project", "name"]).doNothing())
    .returningAll()
    .executeTakeFirst();
  if (!row) throw new BerthError("name_taken", `There is already a snapshot named ${snapshot.name}.`);
  return toSnapshot({ ...row, operation_id: null });
}

/** The snapshot of a project with this id or name; undefined when there is none. */
export async function findSnapshot(queries: Queries, project: string, idOrName: string): Promise<Snapshot | undefined> {
  const row = await queries
    .selectFrom("snapshot")
    .selectAll()
    .select(operationId)
    .where("project", "=", project)
    .where(isId(idOrName) ? "id" : "name", "=", idOrName)
    .executeTakeFirst();
  return row && toSnapshot(row);
}

/** The snapshot with this id, whatever its project. */
export async function readSnapshot(queries: Queries, id: string): Promise<Snapshot | undefined> {
  const row = await queries
    .selectFrom("snapshot")
    .selectAll()
    .select(operationId)
    .where("id", "=", id)
    .executeTakeFirst();
  return row && toSnapshot(row);
}

/** The folder of a snapshot's frozen files; undefined when there is no such snapshot. */
export async function readFolder(queries: Queries, id: string): Promise<string | undefined> {
  const row = await queries.selectFrom("snapshot").select("folder").where("id", "=", id).executeTakeFirst();
  return row?.folder;
}

/** The folders and sizes of all of a node's snapshots, those being made included. */
export async function listSnapshotFolders(
  queries: Queries,
  nodeId: string,
): Promise<
  {
    readonly id: string;
    readonly folder: string;
    readonly state: Snapshot["state"];
    readonly ownBytes: number;
    readonly sharedBytes: number;
  }[]
> {
  const rows = await queries
    .selectFrom("snapshot")
    .select(["id", "folder", "state", "own_bytes", "shared_bytes"])
    .where("node_id", "=", nodeId)
    .execute();
  return rows.map(({ id, folder, state, own_bytes, shared_bytes }) => ({
    id,
    folder,
    state: State.parse(state),
    ownBytes: own_bytes,
    sharedBytes: shared_bytes,
  }));
}

/** The folders of a node's snapshots that are whole. */
export async function listReadyFolders(queries: Queries, nodeId: string): Promise<string[]> {
  const rows = await queries
    .selectFrom("snapshot")
    .select("folder")
    .where("node_id", "=", nodeId)
    .where("state", "=", "ready")
    .execute();
  return rows.map(({ folder }) => folder);
}

/** A page of snapshots, newest first; of all projects when none is named. `instance` is an instance's id, or the name that one had. */
export async function listSnapshots(
  queries: Queries,
  options: PageBounds & {
    readonly project?: string | undefined;
    readonly instance?: string | undefined;
  },
): Promise<Page<Snapshot>> {
  const { project, instance, cursor, limit } = options;
  let query = queries.selectFrom("snapshot").selectAll().select(operationId);
  if (project !== undefined) query = query.where("project", "=", project);
  if (instance !== undefined) query = query.where(isId(instance) ? "instance_id" : "instance_name", "=", instance);
  return toPage(
    await newestFirst(query, { cursor, limit }).execute(),
    limit,
    (row) => [row.created_at, row.id],
    toSnapshot,
  );
}

/** All snapshots of an instance. */
export async function listSnapshotsOf(queries: Queries, instanceId: string): Promise<Snapshot[]> {
  const rows = await queries
    .selectFrom("snapshot")
    .selectAll()
    .select(operationId)
    .where("instance_id", "=", instanceId)
    .execute();
  return rows.map(toSnapshot);
}

/** Changes a snapshot and answers with it as it is then. Rejects with BerthError `not_found`. */
export async function updateSnapshot(tx: Transaction, id: string, changes: SnapshotChanges): Promise<Snapshot> {
  const { state, consistency, memoryBytes, disks, verification } = changes;
  await tx
    .updateTable("snapshot")
    .set({
      id,
      ...(state ? { state } : {}),
      ...(consistency ? { consistency } : {}),
      ...(memoryBytes === undefined ? {} : { memory_bytes: memoryBytes }),
      ...(disks ? { disks: JSON.stringify(disks) } : {}),
      ...(verification
        ? {
            verdict: verification.verdict,
            verdict_reason: verification.reason,
            verified_at: sql<number>`berth_now()`,
          }
        : {}),
    })
    .where("id", "=", id)
    .execute();
  const snapshot = await readSnapshot(tx, id);
  if (!snapshot) throw new BerthError("not_found", `There is no snapshot ${id}.`);
  return snapshot;
}

/** Writes down how much a snapshot's disks hold; nothing happens when it is gone. */
export async function writeSnapshotSizes(
  queries: Queries,
  id: string,
  { ownBytes, sharedBytes }: Pick<Snapshot, "ownBytes" | "sharedBytes">,
): Promise<void> {
  const sizes = { own_bytes: ownBytes, shared_bytes: sharedBytes };
  await queries.updateTable("snapshot").set(sizes).where("id", "=", id).execute();
}

/** Forgets a snapshot, with an image that came with an import and that nothing else stands on; nothing happens when it is already gone. */
export async function deleteSnapshot(tx: Transaction, id: string): Promise<void> {
  const gone = await tx.deleteFrom("snapshot").where("id", "=", id).returning("image_id").executeTakeFirst();
  if (gone) await deleteUnusedImports(tx, gone.image_id);
}
