import { BerthError } from "@berth/api";
import type { Step } from "../../operations/workflow.ts";
import { requireMachine, targetMachine } from "../blank-machine.ts";
import type { Services } from "../services.ts";

/** Lets a machine stand still that waits to be claimed. */
export function pauseMachine(services: Services): Step & { readonly name: "pause-machine" } {
  return {
    name: "pause-machine",
    async run(context) {
      const machine = await targetMachine(services, context);
      const driver = services.driver(machine.location);
      if (!driver.pause) throw new BerthError("unsupported_by_driver", `${driver.location} cannot pause machines.`);
      await driver.pause(await requireMachine(services, machine));
      services.guests.detach(machine.id);
      return undefined;
    },
  };
}
