import { attachUnconfigured } from "../guest-access.ts";
import type { Services } from "../services.ts";
import { requireTemplateMachine, type TemplateStep, targetTemplate } from "./template-step.ts";

/**
 * Waits until the guest of a template says that it waits to be told who it is, or is gone; at the latest until the time limit. What came of it is observed
 * afterwards.
 */
export function awaitPrepared(services: Services): TemplateStep {
  const { guests, readyTimeoutMs } = services;
  return {
    name: "await-prepared",
    async run(context) {
      const template = await targetTemplate(services, context);
      const handle = await requireTemplateMachine(services, template);
      attachUnconfigured(services, template.id, services.driver(template.location), handle);
      const limit = AbortSignal.timeout(readyTimeoutMs);
      try {
        await guests.waitFor(
          template.id,
          ({ phase, gone }) => phase !== "booting" || gone,
          AbortSignal.any([context.signal, limit]),
        );
      } catch (error) {
        if (!limit.aborted) throw error;
        return { result: "in vain" };
      }
      return undefined;
    },
  };
}
