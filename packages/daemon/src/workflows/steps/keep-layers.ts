import type { Step } from "../../operations/workflow.ts";
import { finishSwitch } from "../../storage/switch-disks.ts";
import { describeSwitch } from "../disk-switch.ts";
import type { FindMoment } from "../moment.ts";
import type { Services } from "../services.ts";

/** Lets the instance's disks be the overlays, and makes the files below them read-only for good. */
export function keepLayers(services: Services, find: FindMoment): Step {
  return {
    name: "keep-layers",
    async run(context) {
      const { folder, tag, ...moment } = await find(context);
      const request = { keepIn: folder, standOn: null, tag };
      const { disks, user } = await describeSwitch(services, await moment.instance(), request);
      await finishSwitch(services.host, disks, user);
      return undefined;
    },
  };
}
