import { appendEvent } from "../../store/events.ts";
import { deleteSnapshot, listSnapshotsOf } from "../../store/snapshots.ts";
import { collectLayers } from "../collect-layers.ts";
import type { Services } from "../services.ts";
import { snapshotEvent } from "../snapshot-record.ts";
import type { InstanceStep } from "./step.ts";

/** Removes the rows of all snapshots of an instance: from then on they are gone. What cannot be undone any more is finished. */
export function forgetSnapshots(services: Services): InstanceStep {
  return {
    name: "forget-snapshots",
    async run({ operation }) {
      return {
        write: async (tx) => {
          for (const snapshot of await listSnapshotsOf(tx, operation.target.id)) {
            await deleteSnapshot(tx, snapshot.id);
            appendEvent(tx, snapshotEvent(snapshot, "snapshot.deleted", operation.id));
          }
        },
      };
    },
    async undo({ operation }) {
      await collectLayers(services, operation.target.id);
    },
  };
}
