import { BerthError } from "@berth/api";
import { forgetSwitch, prepareSwitch } from "../../storage/switch-disks.ts";
import { lockInstance, updateInstance } from "../../store/instances.ts";
import { updateSnapshot } from "../../store/snapshots.ts";
import { requireSwitchable } from "../disk-switch.ts";
import { settleLeftSwitches } from "../left-switches.ts";
import { rebuildParts } from "../rebuild-switch.ts";
import type { Services } from "../services.ts";
import type { InstanceStep } from "./step.ts";

/** Makes the new root disk beside the present one, and gives the present disks a second name where they are to be kept. */
export function prepareRebuild(services: Services): InstanceStep {
  const { host, snapshotFolders } = services;
  return {
    name: "prepare-rebuild",
    async run(context) {
      const { instance, artifactPath, kept, disks, user } = await rebuildParts(services, context);
      if (!artifactPath) throw new BerthError("not_found", "The image it was to be rebuilt from is gone.");
      await settleLeftSwitches(services, instance);
      if (kept) {
        await snapshotFolders.create(kept.folder, { snapshotId: kept.snapshot.id });
        await requireSwitchable(services, disks, { signal: context.signal });
      }
      await prepareSwitch(host, disks, user, context.signal);
      const sizes = await Promise.all(
        disks.map(async ({ name, path }) => ({ name, sizeBytes: (await snapshotFolders.sizeBytes(path)) ?? 0 })),
      );
      return {
        write: async (tx) => {
          if (kept) await updateSnapshot(tx, kept.snapshot.id, { disks: sizes });
          // Until here it went on as ever.
          const current = await lockInstance(tx, instance.id);
          if (!current) return;
          const off = { phase: "provisioning", ready: false, health: "unknown" } as const;
          await updateInstance(tx, instance.id, { status: { ...current.status, ...off } });
        },
      };
    },
    async undo(context) {
      // As with a restore: once a disk has been replaced all of them are.
      if (context.journal.has("replace-disks")) return;
      const { kept, disks } = await rebuildParts(services, context);
      await forgetSwitch(host, disks);
      if (kept) await snapshotFolders.remove(kept.folder);
    },
  };
}
