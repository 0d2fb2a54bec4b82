import { BerthError } from "@berth/api";
import { z } from "zod";
import { remedySwitch, type SwitchRemedy } from "../../core/disk-switch.ts";
import type { Step, StepContext } from "../../operations/workflow.ts";
import { finishSwitch, forgetSwitch, prepareSwitch, takeBackSwitch } from "../../storage/switch-disks.ts";
import { describeSwitch, type InstanceSwitch, isSwitched, requireSwitchable } from "../disk-switch.ts";
import { settleLeftSwitches } from "../left-switches.ts";
import type { FindMoment, Moment } from "../moment.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";

/** What it leaves: whether the machine was off. */
const Prepared = z.object({ wasOff: z.boolean() });

/** Makes the folder of a moment that is kept, gives the present disks a second name there, and makes the overlays that will take their place. */
export function prepareLayers(services: Services, find: FindMoment): Step {
  const { host, snapshotFolders } = services;

  const describe = async (moment: Moment): Promise<InstanceSwitch> => {
    const { folder, tag } = moment;
    return describeSwitch(services, await moment.instance(), { keepIn: folder, standOn: null, tag });
  };

  /** How the disks become as before, by what is seen of the machine. */
  const remedy = async (context: StepContext, moment: Moment, { disks }: InstanceSwitch): Promise<SwitchRemedy> => {
    const instance = await moment.instance();
    const driver = services.driver(instance.location);
    const handle = await findHandle(services, instance);
    const power = handle ? (await driver.inspect(handle)).power : "stopped";
    const prepared = Prepared.safeParse(context.journal.get("prepare-layers")?.result);
    return remedySwitch({
      begun: ["switch-disks", "save-memory", "keep-layers"].some((step) => context.journal.has(step)),
      offAllAlong: prepared.data?.wasOff === true && power === "stopped",
      power,
      switched: handle !== undefined && power !== "stopped" && (await isSwitched(services, driver, handle, disks)),
    });
  };

  return {
    name: "prepare-layers",
    async run(context) {
      const moment = await find(context);
      const { folder, owner, memoryMib } = moment;
      const instance = await moment.instance();
      const handle = await findHandle(services, instance);
      const power = handle ? (await services.driver(instance.location).inspect(handle)).power : "stopped";
      if (memoryMib !== null && power === "stopped")
        throw new BerthError("instance_not_running", `${instance.name} is off: it has no memory to keep.`);
      await settleLeftSwitches(services, instance);
      const { disks, user } = await describe(moment);
      await snapshotFolders.create(folder, owner);
      await requireSwitchable(services, disks, { moreBytes: (memoryMib ?? 0) * 2 ** 20, signal: context.signal });
      await prepareSwitch(host, disks, user, context.signal);
      const sizes = await Promise.all(
        disks.map(async ({ name, path }) => ({ name, sizeBytes: (await snapshotFolders.sizeBytes(path)) ?? 0 })),
      );
      // Of a running one it is not known before its disks are switched.
      const consistency = power === "stopped" ? "stopped" : memoryMib === null ? "crash" : "memory";
      return {
        result: { wasOff: power === "stopped" } satisfies z.infer<typeof Prepared>,
        write: (tx) => moment.record(tx, { disks: sizes, consistency }),
      };
    },
    async undo(context) {
      const moment = await find(context);
      const { instanceId, folder } = moment;
      if (await services.folders.find(instanceId)) {
        const parts = await describe(moment);
        const how = await remedy(context, moment, parts);
        if (how === "forget") await forgetSwitch(host, parts.disks);
        if (how === "take-back") await takeBackSwitch(host, parts.disks, parts.user);
        if (how === "finish") await finishSwitch(host, parts.disks, parts.user);
      }
      await host.files.remove(snapshotFolders.memoryPath(folder));
      if ((await snapshotFolders.disksOf(folder)).length === 0) await snapshotFolders.remove(folder);
    },
  };
}
