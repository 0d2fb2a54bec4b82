import { BerthError } from "@berth/api";
import type { Step } from "../../operations/workflow.ts";
import { requireMachine, targetMachine } from "../blank-machine.ts";
import type { Services } from "../services.ts";

/** Saves the memory of a template's machine and powers that off. Programs of the image, where they run, stand still by then, and go on in each clone when that knows who it is. */
export function saveTemplate(services: Services): Step & { readonly name: "save-memory" } {
  const { guests, templates } = services;
  return {
    name: "save-memory",
    async run(context) {
      const machine = await targetMachine(services, context);
      const driver = services.driver(machine.location);
      if (!driver.saveMemory) throw new BerthError("unsupported_by_driver", `${driver.location} saves no memory.`);
      const handle = await requireMachine(services, machine);
      await templates.create(machine.id);
      const request = {
        folder: templates.memoryPath(machine.id),
        use: "shared",
        switches: [],
        afterwards: "off",
        beforePause: async () => {
          if (machine.app) await guests.hold(machine.id, context.signal);
        },
      } as const;
      await driver.saveMemory(handle, request, context.signal);
      return undefined;
    },
    async undo(context) {
      await templates.remove(context.operation.target.id);
    },
  };
}
