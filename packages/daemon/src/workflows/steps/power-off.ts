import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Cuts the power; nothing to do when it is off. */
export function powerOff(services: Services): InstanceStep {
  return {
    name: "power-off",
    async run(context) {
      const instance = await targetInstance(services, context);
      const handle = await findHandle(services, instance);
      if (handle) await services.driver(instance.location).powerOff(handle);
      services.guests.detach(instance.id);
      return undefined;
    },
  };
}
