import { BerthError, type Instance, type Snapshot } from "@berth/api";
import { z } from "zod";
import type { StepContext } from "../operations/workflow.ts";
import type { NewEvent } from "../store/events.ts";
import { readInstance } from "../store/instances.ts";
import { readFolder, readSnapshot, updateSnapshot } from "../store/snapshots.ts";
import type { FindMoment } from "./moment.ts";
import type { Services } from "./services.ts";

/** The event that tells of a snapshot. */
export function snapshotEvent(
  snapshot: Pick<Snapshot, "id" | "name" | "project">,
  type: string,
  operationId: string | null,
  data: NewEvent["data"] = {},
): NewEvent {
  const subject = { kind: "snapshot", id: snapshot.id, name: snapshot.name };
  return { type, project: snapshot.project, subject, operationId, data };
}

/** What the making of a snapshot was asked beside what its row says. */
export const SnapshotInput = z.object({
  /** Whether its disks may be as after a power cut. */
  crashConsistent: z.boolean(),
});
export type SnapshotInput = z.infer<typeof SnapshotInput>;

/** A snapshot with the folder of its frozen files. */
export interface StoredSnapshot {
  readonly snapshot: Snapshot;
  readonly folder: string;
}

/** The snapshot with this id. Rejects with `not_found`. */
export async function requireSnapshot({ store }: Services, id: string): Promise<StoredSnapshot> {
  const [snapshot, folder] = [await readSnapshot(store.queries, id), await readFolder(store.queries, id)];
  if (!snapshot || folder === undefined) throw new BerthError("not_found", `Snapshot ${id} is gone.`);
  return { snapshot, folder };
}

/** The snapshot an operation works on. */
export function targetSnapshot(services: Services, context: StepContext): Promise<StoredSnapshot> {
  return requireSnapshot(services, context.operation.target.id);
}

/** The instance that a snapshot is being made of. Rejects with `not_found`. */
export async function snapshotInstance({ store }: Services, snapshot: Snapshot): Promise<Instance> {
  const instance = await readInstance(store.queries, snapshot.instanceId);
  if (!instance) throw new BerthError("not_found", `Instance ${snapshot.instanceName} is gone.`);
  return instance;
}

/** The moment that a snapshot being made is of. */
export function snapshotMoment(services: Services): FindMoment {
  return async (context) => {
    const { snapshot, folder } = await targetSnapshot(services, context);
    return {
      instanceId: snapshot.instanceId,
      instance: () => snapshotInstance(services, snapshot),
      folder,
      owner: { snapshotId: snapshot.id },
      tag: snapshot.id,
      memoryMib: snapshot.kind === "memory" ? snapshot.spec.memoryMib : null,
      record: async (tx, facts) => {
        await updateSnapshot(tx, snapshot.id, facts);
      },
    };
  };
}
