import { updateInstance } from "../../store/instances.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/**
 * Makes the machine that stood in a pool the instance's own: from here on it goes when the instance goes. One that does not stand there any more is cleared away, and the
 * instance gets a machine as any other does.
 */
export function takeOver(services: Services): InstanceStep {
  const { folders, guests } = services;
  return {
    name: "take-over",
    async run(context) {
      const instance = await targetInstance(services, context);
      const driver = services.driver(instance.location);
      const handle = await findHandle(services, instance);
      const waits = handle !== undefined && (await driver.inspect(handle)).power === "paused";
      if (!waits) {
        if (handle) await driver.destroy(handle);
        await folders.remove(instance.id);
      }
      return {
        write: async (tx) => {
          await updateInstance(tx, instance.id, { handle: waits ? handle : null });
        },
      };
    },
    async undo(context) {
      const instance = await targetInstance(services, context);
      guests.detach(instance.id);
      const handle = await findHandle(services, instance);
      if (handle) await services.driver(instance.location).destroy(handle);
      await folders.remove(instance.id);
    },
  };
}
