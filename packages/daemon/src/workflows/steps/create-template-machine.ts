import { machineInputs } from "../machine-inputs.ts";
import { findTemplateMachine, templateDisks } from "../observe-template.ts";
import type { Services } from "../services.ts";
import { type TemplateStep, targetTemplate } from "./template-step.ts";

/** Has the driver make the machine whose memory becomes the template. Nothing is published. */
export function createTemplateMachine(services: Services): TemplateStep {
  return {
    name: "create-machine",
    async run(context) {
      const template = await targetTemplate(services, context);
      const { id, location, cpus, memoryMib } = template;
      const interfaces = Array.from({ length: template.interfaces }, (_, index) => ({
        name: `eth${index}`,
        network: "user" as const,
      }));
      const size = { cpus, memoryMib, disks: templateDisks(template), interfaces };
      const inputs = await machineInputs(services, { ownerId: id, name: id, ...size, ports: [], labels: {} });
      await services.driver(location).create(inputs);
      return undefined;
    },
    async undo(context) {
      const template = await targetTemplate(services, context);
      const handle = await findTemplateMachine(services, template);
      if (handle) await services.driver(template.location).destroy(handle);
    },
  };
}
