import { runOf } from "../../core/instance-run.ts";
import { updateInstance } from "../../store/instances.ts";
import { instanceMachine } from "../machine-inputs.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Has the driver make the machine, stopped. */
export function createMachine(services: Services): InstanceStep {
  return {
    name: "create-machine",
    async run(context) {
      const instance = await targetInstance(services, context);
      const inputs = await instanceMachine(services, instance, runOf(instance));
      const handle = await services.driver(instance.location).create(inputs);
      return {
        write: async (tx) => {
          await updateInstance(tx, instance.id, { handle });
        },
      };
    },
    async undo(context) {
      const instance = await targetInstance(services, context);
      const handle = await findHandle(services, instance);
      if (handle) await services.driver(instance.location).destroy(handle);
    },
  };
}
