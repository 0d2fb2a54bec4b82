import { BerthError } from "@berth/api";
import type { Step } from "../../operations/workflow.ts";
import { requireMachine, targetMachine } from "../blank-machine.ts";
import type { Services } from "../services.ts";

/** Saves the memory of a template's machine and powers that off. No program of the image runs yet, so there is nothing to hold. */
export function saveTemplate(services: Services): Step & { readonly name: "save-memory" } {
  const { templates } = services;
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
        beforePause: async () => undefined,
      } as const;
      await driver.saveMemory(handle, request, context.signal);
      return undefined;
    },
    async undo(context) {
      await templates.remove(context.operation.target.id);
    },
  };
}
