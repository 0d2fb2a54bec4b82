import { BerthError } from "@berth/api";
import type { Services } from "../services.ts";
import { requireTemplateMachine, type TemplateStep, targetTemplate } from "./template-step.ts";

/** Saves the memory of a template's machine and powers that off. No program of the image runs yet, so there is nothing to hold. */
export function saveTemplate(services: Services): TemplateStep {
  const { templates } = services;
  return {
    name: "save-memory",
    async run(context) {
      const template = await targetTemplate(services, context);
      const driver = services.driver(template.location);
      if (!driver.saveMemory) throw new BerthError("unsupported_by_driver", `${driver.location} saves no memory.`);
      const handle = await requireTemplateMachine(services, template);
      await templates.create(template.id);
      const request = {
        folder: templates.memoryPath(template.id),
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
