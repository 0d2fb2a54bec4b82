import type { Step } from "../../operations/workflow.ts";
import { findMachine, targetMachine } from "../blank-machine.ts";
import type { Services } from "../services.ts";

/** Cuts the power of a machine that is nobody's. */
export function powerOffBlank(services: Services): Step & { readonly name: "power-off" } {
  return {
    name: "power-off",
    async run(context) {
      const machine = await targetMachine(services, context);
      services.guests.detach(machine.id);
      const handle = await findMachine(services, machine);
      if (handle) await services.driver(machine.location).powerOff(handle);
      return undefined;
    },
  };
}
