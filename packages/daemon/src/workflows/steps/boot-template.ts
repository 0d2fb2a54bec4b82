import { findTemplateMachine } from "../observe-template.ts";
import type { Services } from "../services.ts";
import { requireTemplateMachine, type TemplateStep, targetTemplate } from "./template-step.ts";

/** Powers the machine of a template on. */
export function bootTemplate(services: Services): TemplateStep {
  const { guests, network } = services;
  return {
    name: "start-machine",
    async run(context) {
      const template = await targetTemplate(services, context);
      const handle = await requireTemplateMachine(services, template);
      await network.prepare();
      await services.driver(template.location).start(handle, context.signal);
      return undefined;
    },
    async undo(context) {
      const template = await targetTemplate(services, context);
      guests.detach(template.id);
      const handle = await findTemplateMachine(services, template);
      if (handle) await services.driver(template.location).powerOff(handle);
    },
  };
}
