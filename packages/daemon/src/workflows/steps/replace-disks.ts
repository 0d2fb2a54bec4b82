import { finishSwitch } from "../../storage/switch-disks.ts";
import { appendEvent } from "../../store/events.ts";
import { readInstance, updateInstance } from "../../store/instances.ts";
import { readSnapshot, updateSnapshot } from "../../store/snapshots.ts";
import type { Transaction } from "../../store/store.ts";
import { instanceEvent } from "../instance-record.ts";
import { type RestoreParts, restoreParts } from "../restore-switch.ts";
import { originOf } from "../saved-memory.ts";
import type { Services } from "../services.ts";
import { snapshotEvent } from "../snapshot-record.ts";
import type { InstanceStep } from "./step.ts";

/** Lets the prepared overlays be the instance's disks. One that was begun is always finished. */
export function replaceDisks(services: Services): InstanceStep {
  const replace = async (parts: RestoreParts) => finishSwitch(services.host, parts.disks, parts.user);
  return {
    name: "replace-disks",
    async run(context) {
      const parts = await restoreParts(services, context);
      await replace(parts);
      return { write: (tx) => write(tx, parts, context.operation.id) };
    },
    async undo(context) {
      if (context.journal.get("replace-disks")?.status === "succeeded") return;
      const parts = await restoreParts(services, context);
      await replace(parts);
      await services.store.transaction((tx) => write(tx, parts, context.operation.id));
    },
  };
}

async function write(tx: Transaction, parts: RestoreParts, operationId: string): Promise<void> {
  const { instance, source, withMemory, kept } = parts;
  const { snapshot, folder } = source;
  if (await readInstance(tx, instance.id)) {
    await updateInstance(tx, instance.id, {
      image: { id: snapshot.imageId, reference: snapshot.image },
      memory: withMemory ? { folder, used: false, origin: originOf(snapshot, instance.id) } : null,
    });
    const data = { snapshotId: snapshot.id, snapshotName: snapshot.name };
    appendEvent(tx, instanceEvent(instance, "instance.restored", operationId, data));
  }
  if (!kept || !(await readSnapshot(tx, kept.snapshot.id))) return;
  await updateSnapshot(tx, kept.snapshot.id, { state: "ready" });
  appendEvent(tx, snapshotEvent(kept.snapshot, "snapshot.created", operationId, { instanceId: instance.id }));
}
