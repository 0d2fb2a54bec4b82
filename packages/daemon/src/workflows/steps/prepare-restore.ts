import { forgetSwitch, prepareSwitch } from "../../storage/switch-disks.ts";
import { updateSnapshot } from "../../store/snapshots.ts";
import { requireSwitchable } from "../disk-switch.ts";
import { requireFittingMemory } from "../fitting-memory.ts";
import { settleLeftSwitches } from "../left-switches.ts";
import { restoreParts } from "../restore-switch.ts";
import type { Services } from "../services.ts";
import { requireSound } from "../sound-layers.ts";
import type { InstanceStep } from "./step.ts";

/** Makes overlays over the snapshot's files beside the instance's disks, and gives the present ones a second name where they are to be kept. */
export function prepareRestore(services: Services): InstanceStep {
  const { host, snapshotFolders } = services;
  return {
    name: "prepare-restore",
    async run(context) {
      const { instance, source, withMemory, kept, disks, user } = await restoreParts(services, context);
      const sourceDisks = source.snapshot.spec.disks.map(({ name }) => name);
      const inspected = { folder: source.folder, disks: sourceDisks, memory: withMemory };
      await requireSound(services, inspected, context.signal);
      if (withMemory) await requireFittingMemory(services, instance, source.folder);
      await settleLeftSwitches(services, instance);
      if (kept) await snapshotFolders.create(kept.folder, { snapshotId: kept.snapshot.id });
      await requireSwitchable(services, disks, { signal: context.signal });
      await prepareSwitch(host, disks, user, context.signal);
      if (!kept) return undefined;
      const sizes = await Promise.all(
        disks.map(async ({ name, path }) => ({ name, sizeBytes: (await snapshotFolders.sizeBytes(path)) ?? 0 })),
      );
      return {
        write: async (tx) => {
          await updateSnapshot(tx, kept.snapshot.id, { disks: sizes });
        },
      };
    },
    async undo(context) {
      // Once a disk has been replaced all of them are: then there is nothing to take back, and what was is kept.
      if (context.journal.has("replace-disks")) return;
      const { kept, disks } = await restoreParts(services, context);
      await forgetSwitch(host, disks);
      if (kept) await snapshotFolders.remove(kept.folder);
    },
  };
}
