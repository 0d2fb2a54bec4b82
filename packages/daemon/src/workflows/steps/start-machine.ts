import { readInstance, updateInstance } from "../../store/instances.ts";
import { attachGuest } from "../guest-access.ts";
import { InstanceInput } from "../instance-input.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, requireHandle, targetInstance } from "./step.ts";

/** Powers the machine on and begins to listen to its guest. */
export function startMachine(services: Services): InstanceStep {
  const { guests, network } = services;
  return {
    name: "start-machine",
    async run(context) {
      const instance = await targetInstance(services, context);
      const driver = services.driver(instance.location);
      const handle = await requireHandle(services, instance);
      await network.prepare();
      await driver.start(handle, context.signal);
      // What was heard of an earlier run is of no use for this one.
      guests.detach(instance.id);
      await attachGuest(services, instance, driver, handle);
      const { restartGeneration } = InstanceInput.parse(context.operation.input);
      return {
        write: async (tx) => {
          const current = await readInstance(tx, instance.id);
          if (!current) return;
          const status = { ...current.status, restartGeneration, exitCode: null, reason: "" };
          await updateInstance(tx, instance.id, { status });
        },
      };
    },
    async undo(context) {
      const instance = await targetInstance(services, context);
      const handle = await findHandle(services, instance);
      guests.detach(instance.id);
      if (handle) await services.driver(instance.location).powerOff(handle);
    },
  };
}
