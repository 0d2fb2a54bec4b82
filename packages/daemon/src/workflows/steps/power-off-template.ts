import { findTemplateMachine } from "../observe-template.ts";
import type { Services } from "../services.ts";
import { type TemplateStep, targetTemplate } from "./template-step.ts";

/** Cuts the power of a template's machine whose memory is saved already. */
export function powerOffTemplate(services: Services): TemplateStep {
  return {
    name: "power-off",
    async run(context) {
      const template = await targetTemplate(services, context);
      const handle = await findTemplateMachine(services, template);
      if (handle) await services.driver(template.location).powerOff(handle);
      return undefined;
    },
  };
}
