import { updateInstance } from "../../store/instances.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Removes what the driver made; its disks stay. */
export function destroyMachine(services: Services): InstanceStep {
  return {
    name: "destroy-machine",
    async run(context) {
      const instance = await targetInstance(services, context);
      services.guests.detach(instance.id);
      const handle = await findHandle(services, instance);
      if (handle) await services.driver(instance.location).destroy(handle);
      return {
        write: async (tx) => {
          await updateInstance(tx, instance.id, { handle: null });
        },
      };
    },
  };
}
