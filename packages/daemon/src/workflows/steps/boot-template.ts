import type { Step } from "../../operations/workflow.ts";
import { findMachine, requireMachine, targetMachine } from "../blank-machine.ts";
import type { Services } from "../services.ts";

/** Powers the machine of a template on. */
export function bootTemplate(services: Services): Step & { readonly name: "start-machine" } {
  const { guests, network } = services;
  return {
    name: "start-machine",
    async run(context) {
      const machine = await targetMachine(services, context);
      const handle = await requireMachine(services, machine);
      await network.prepare();
      await services.driver(machine.location).start(handle, context.signal);
      return undefined;
    },
    async undo(context) {
      const machine = await targetMachine(services, context);
      guests.detach(machine.id);
      const handle = await findMachine(services, machine);
      if (handle) await services.driver(machine.location).powerOff(handle);
    },
  };
}
