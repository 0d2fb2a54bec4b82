import type { Step } from "../../operations/workflow.ts";
import { appendEvent } from "../../store/events.ts";
import { deleteSnapshot, readSnapshot } from "../../store/snapshots.ts";
import { collectLayers } from "../collect-layers.ts";
import type { Services } from "../services.ts";
import { snapshotEvent } from "../snapshot-record.ts";

/** Removes the snapshot's row: from then on it is gone, and its files are only what others stand on. What cannot be undone any more is finished. */
export function forgetSnapshot(services: Services): Step {
  const { store } = services;
  return {
    name: "forget-snapshot",
    async run(context) {
      const { operation } = context;
      return {
        write: async (tx) => {
          const snapshot = await readSnapshot(tx, operation.target.id);
          if (!snapshot) return;
          await deleteSnapshot(tx, snapshot.id);
          appendEvent(tx, snapshotEvent(snapshot, "snapshot.deleted", operation.id));
        },
      };
    },
    async undo({ operation }) {
      if (!(await readSnapshot(store.queries, operation.target.id))) await collectLayers(services);
    },
  };
}
