import type { Step } from "../../operations/workflow.ts";
import { finishSwitch } from "../../storage/switch-disks.ts";
import { describeSwitch } from "../disk-switch.ts";
import type { Services } from "../services.ts";
import { snapshotInstance, targetSnapshot } from "../snapshot-record.ts";

/** Lets the instance's disks be the overlays, and makes the files below them read-only for good. */
export function keepLayers(services: Services): Step {
  return {
    name: "keep-layers",
    async run(context) {
      const { snapshot, folder } = await targetSnapshot(services, context);
      const instance = await snapshotInstance(services, snapshot);
      const { disks, user } = await describeSwitch(services, instance, {
        keepIn: folder,
        standOn: null,
        tag: snapshot.id,
      });
      await finishSwitch(services.host, disks, user);
      return undefined;
    },
  };
}
