import { BerthError } from "@berth/api";
import type { Step, StepContext } from "../../operations/workflow.ts";
import { prepareSwitch, takeBackSwitch } from "../../storage/switch-disks.ts";
import { updateSnapshot } from "../../store/snapshots.ts";
import { describeSwitch, type InstanceSwitch, requireSwitchable } from "../disk-switch.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { snapshotInstance, targetSnapshot } from "../snapshot-record.ts";

/** Makes the snapshot's folder, gives the present disks a second name there, and makes the overlays that will take their place. */
export function prepareLayers(services: Services): Step {
  const { host, snapshotFolders } = services;

  const describe = async (context: StepContext): Promise<InstanceSwitch & { readonly folder: string }> => {
    const { snapshot, folder } = await targetSnapshot(services, context);
    const instance = await snapshotInstance(services, snapshot);
    return {
      folder,
      ...(await describeSwitch(services, instance, { keepIn: folder, standOn: null, tag: snapshot.id })),
    };
  };

  return {
    name: "prepare-layers",
    async run(context) {
      const { snapshot } = await targetSnapshot(services, context);
      const instance = await snapshotInstance(services, snapshot);
      const handle = await findHandle(services, instance);
      const power = handle ? (await services.driver(instance.location).inspect(handle)).power : "stopped";
      if (power !== "stopped") throw new BerthError("instance_running", `${instance.name} runs.`);
      const { folder, disks, user } = await describe(context);
      await snapshotFolders.create(folder, snapshot.id);
      await requireSwitchable(services, disks);
      await prepareSwitch(host, disks, user, context.signal);
      const sizes = await Promise.all(
        disks.map(async ({ name, path }) => ({ name, sizeBytes: (await snapshotFolders.sizeBytes(path)) ?? 0 })),
      );
      return {
        write: async (tx) => {
          await updateSnapshot(tx, snapshot.id, { disks: sizes });
        },
      };
    },
    async undo(context) {
      const { snapshot, folder } = await targetSnapshot(services, context);
      if (await services.folders.find(snapshot.instanceId)) {
        const { disks, user } = await describe(context);
        await takeBackSwitch(host, disks, user);
      }
      await snapshotFolders.remove(folder);
    },
  };
}
