import { volumesDisk } from "../../core/volumes.ts";
import { finishSwitch } from "../../storage/switch-disks.ts";
import { createVolumesDisk } from "../../storage/volumes-disk.ts";
import { appendEvent } from "../../store/events.ts";
import { deleteUnusedImports } from "../../store/images.ts";
import { lockInstance, updateInstance } from "../../store/instances.ts";
import { readSnapshot, updateSnapshot } from "../../store/snapshots.ts";
import type { Transaction } from "../../store/store.ts";
import { diskPath } from "../instance-paths.ts";
import { instanceEvent } from "../instance-record.ts";
import { type RebuildParts, rebuildParts } from "../rebuild-switch.ts";
import type { Services } from "../services.ts";
import { snapshotEvent } from "../snapshot-record.ts";
import type { InstanceStep } from "./step.ts";

/** Lets the new root disk be the instance's. One that was begun is always finished. */
export function replaceRoot(services: Services): InstanceStep {
  const { host, store } = services;
  const replace = async ({ vmPath, spec, disks, user }: RebuildParts) => {
    const volumes = spec.find(({ name }) => name === volumesDisk);
    if (volumes) await createVolumesDisk(host, { ...volumes, path: diskPath(vmPath, volumesDisk), user });
    await finishSwitch(host, disks, user);
  };
  return {
    name: "replace-disks",
    async run(context) {
      const parts = await rebuildParts(services, context);
      await replace(parts);
      return { write: (tx) => write(tx, parts, context.operation.id) };
    },
    async undo(context) {
      if (context.journal.get("replace-disks")?.status === "succeeded") return;
      const parts = await rebuildParts(services, context);
      await replace(parts);
      await store.transaction((tx) => write(tx, parts, context.operation.id));
    },
  };
}

async function write(tx: Transaction, parts: RebuildParts, operationId: string): Promise<void> {
  const { imageId, reference, spec: disks, kept } = parts;
  const instance = await lockInstance(tx, parts.instance.id);
  if (!instance) return;
  // What fitted its former disk alone is asked of no other.
  const warm = instance.spec.warm === "never" ? "never" : "auto";
  await updateInstance(tx, instance.id, {
    image: { id: imageId, reference },
    memory: null,
    spec: { ...instance.spec, disks, warm },
  });
  appendEvent(tx, instanceEvent(instance, "instance.rebuilt", operationId, { image: reference }));
  await deleteUnusedImports(tx, instance.imageId);
  if (!kept || !(await readSnapshot(tx, kept.snapshot.id))) return;
  await updateSnapshot(tx, kept.snapshot.id, { state: "ready" });
  appendEvent(tx, snapshotEvent(kept.snapshot, "snapshot.created", operationId, { instanceId: instance.id }));
}
