import type { Step } from "../../operations/workflow.ts";
import { findMachine, targetMachine } from "../blank-machine.ts";
import type { Services } from "../services.ts";

/** Removes a machine that is nobody's. */
export function destroyBlankMachine(services: Services): Step & { readonly name: "destroy-machine" } {
  return {
    name: "destroy-machine",
    async run(context) {
      const machine = await targetMachine(services, context);
      services.guests.detach(machine.id);
      const handle = await findMachine(services, machine);
      if (handle) await services.driver(machine.location).destroy(handle);
      return undefined;
    },
  };
}
