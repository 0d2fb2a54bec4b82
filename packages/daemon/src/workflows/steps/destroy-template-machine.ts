import { findTemplateMachine } from "../observe-template.ts";
import type { Services } from "../services.ts";
import { type TemplateStep, targetTemplate } from "./template-step.ts";

/** Removes the machine of a template, which has served its purpose. */
export function destroyTemplateMachine(services: Services): TemplateStep {
  return {
    name: "destroy-machine",
    async run(context) {
      const template = await targetTemplate(services, context);
      services.guests.detach(template.id);
      const handle = await findTemplateMachine(services, template);
      if (handle) await services.driver(template.location).destroy(handle);
      return undefined;
    },
  };
}
