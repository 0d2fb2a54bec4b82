import type { Instance, Snapshot, SnapshotChange } from "@berth/api";
import { newId } from "../core/ids.ts";
import { snapshotName } from "../core/snapshot-spec.ts";
import { startOperation } from "../operations/start.ts";
import { newFolderName } from "../storage/snapshot-folders.ts";
import { resourceOf } from "../store/operations.ts";
import { findSnapshot, insertSnapshot } from "../store/snapshots.ts";
import type { Transaction } from "../store/store.ts";
import type { SnapshotInput } from "./snapshot-record.ts";

/** A snapshot to be taken. */
interface SnapshotRequest {
  /** Made from the instance's name and the time when not given. */
  readonly name?: string | undefined;
  readonly kind: Snapshot["kind"];
  readonly automatic: boolean;
  readonly crashConsistent: boolean;
  readonly queue?: boolean;
  /** The token or controller that asks. */
  readonly requestedBy: string;
}

/** Writes down a snapshot of an instance and starts the operation that takes it. Rejects with BerthError `busy` or `name_taken`. */
export async function openSnapshot(
  tx: Transaction,
  instance: Instance,
  asked: SnapshotRequest,
): Promise<SnapshotChange> {
  const { kind, automatic, crashConsistent, queue = false, requestedBy } = asked;
  const id = newId("snapshot");
  const name = asked.name ?? (await freeSnapshotName(tx, instance, automatic ? "auto" : undefined));
  const operation = await startOperation(tx, {
    type: "snapshot.create",
    project: instance.project,
    target: { kind: "snapshot", id, name },
    claims: [resourceOf("instance", instance.id), resourceOf("snapshot", id)],
    input: { crashConsistent } satisfies SnapshotInput,
    nodeId: instance.nodeId,
    requestedBy,
    queue,
  });
  const snapshot = await insertSnapshotOf(tx, instance, { id, name, kind, automatic });
  return { snapshot: { ...snapshot, operationId: operation.id }, operation };
}

/** The row of a snapshot that is going to be made of an instance as it is. How its disks are is known when they are switched. */
export function insertSnapshotOf(
  tx: Transaction,
  instance: Instance,
  what: Pick<Snapshot, "id" | "name" | "kind" | "automatic">,
): Promise<Snapshot> {
  const { project, imageId, image, location, nodeId, spec } = instance;
  const of = { instanceId: instance.id, instanceName: instance.name, consistency: "stopped" as const, disks: [] };
  const folder = newFolderName();
  return insertSnapshot(tx, { project, ...what, ...of, imageId, image, location, nodeId, spec, folder });
}

/** A name that no snapshot of the project has. */
export async function freeSnapshotName(tx: Transaction, instance: Instance, what?: string): Promise<string> {
  const now = new Date();
  for (let number = 1; ; number += 1) {
    const name = snapshotName(instance.name, now, { number, ...(what ? { what } : {}) });
    if (!(await findSnapshot(tx, instance.project, name))) return name;
  }
}

/** Starts the operation that deletes a snapshot, or verifies it. Rejects with BerthError `busy`; a delete goes before other work on it. */
export async function openSnapshotWork(
  tx: Transaction,
  snapshot: Snapshot,
  asked: {
    readonly verb: "delete" | "verify";
    /** Whether it goes before who holds the snapshot. */
    readonly first: boolean;
    readonly queue?: boolean;
    readonly requestedBy: string;
  },
): Promise<SnapshotChange> {
  const operation = await startOperation(tx, {
    type: `snapshot.${asked.verb}`,
    project: snapshot.project,
    target: { kind: "snapshot", id: snapshot.id, name: snapshot.name },
    claims: [resourceOf("snapshot", snapshot.id)],
    input: {},
    nodeId: snapshot.nodeId,
    requestedBy: asked.requestedBy,
    queue: asked.queue ?? false,
    rank: asked.first ? 2 : 0,
  });
  return { snapshot: { ...snapshot, operationId: operation.id }, operation };
}
