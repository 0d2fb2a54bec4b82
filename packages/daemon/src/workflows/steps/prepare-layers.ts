import { BerthError } from "@berth/api";
import { z } from "zod";
import { remedySwitch, type SwitchRemedy } from "../../core/disk-switch.ts";
import type { Step, StepContext } from "../../operations/workflow.ts";
import { finishSwitch, forgetSwitch, prepareSwitch, takeBackSwitch } from "../../storage/switch-disks.ts";
import { updateSnapshot } from "../../store/snapshots.ts";
import { describeSwitch, type InstanceSwitch, isSwitched, requireSwitchable } from "../disk-switch.ts";
import { settleLeftSwitches } from "../left-switches.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { snapshotInstance, targetSnapshot } from "../snapshot-record.ts";

/** What it leaves: whether the machine was off. */
const Prepared = z.object({ wasOff: z.boolean() });

/** Makes the snapshot's folder, gives the present disks a second name there, and makes the overlays that will take their place. */
export function prepareLayers(services: Services): Step {
  const { host, snapshotFolders } = services;

  const describe = async (context: StepContext): Promise<InstanceSwitch> => {
    const { snapshot, folder } = await targetSnapshot(services, context);
    const instance = await snapshotInstance(services, snapshot);
    return describeSwitch(services, instance, { keepIn: folder, standOn: null, tag: snapshot.id });
  };

  /** How the disks become as before, by what is seen of the machine. */
  const remedy = async (context: StepContext, { disks }: InstanceSwitch): Promise<SwitchRemedy> => {
    const { snapshot } = await targetSnapshot(services, context);
    const instance = await snapshotInstance(services, snapshot);
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
      const { snapshot, folder } = await targetSnapshot(services, context);
      const instance = await snapshotInstance(services, snapshot);
      const handle = await findHandle(services, instance);
      const power = handle ? (await services.driver(instance.location).inspect(handle)).power : "stopped";
      if (snapshot.kind === "memory" && power === "stopped")
        throw new BerthError("instance_not_running", `${instance.name} is off: it has no memory to keep.`);
      await settleLeftSwitches(services, instance);
      const { disks, user } = await describe(context);
      await snapshotFolders.create(folder, snapshot.id);
      const memoryBytes = snapshot.kind === "memory" ? snapshot.spec.memoryMib * 2 ** 20 : 0;
      await requireSwitchable(services, disks, memoryBytes);
      await prepareSwitch(host, disks, user, context.signal);
      const sizes = await Promise.all(
        disks.map(async ({ name, path }) => ({ name, sizeBytes: (await snapshotFolders.sizeBytes(path)) ?? 0 })),
      );
      return {
        result: { wasOff: power === "stopped" } satisfies z.infer<typeof Prepared>,
        write: async (tx) => {
          // Of a running one it is not known before its disks are switched.
          const consistency = power === "stopped" ? "stopped" : snapshot.kind === "memory" ? "memory" : "crash";
          await updateSnapshot(tx, snapshot.id, { disks: sizes, consistency });
        },
      };
    },
    async undo(context) {
      const { snapshot, folder } = await targetSnapshot(services, context);
      if (await services.folders.find(snapshot.instanceId)) {
        const parts = await describe(context);
        const how = await remedy(context, parts);
        if (how === "forget") await forgetSwitch(host, parts.disks);
        if (how === "take-back") await takeBackSwitch(host, parts.disks, parts.user);
        if (how === "finish") await finishSwitch(host, parts.disks, parts.user);
      }
      await host.files.remove(snapshotFolders.memoryPath(folder));
      if ((await snapshotFolders.disksOf(folder)).length === 0) await snapshotFolders.remove(folder);
    },
  };
}
