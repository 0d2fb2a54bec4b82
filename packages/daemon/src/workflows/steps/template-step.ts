import { BerthError, type Template } from "@berth/api";
import type { TemplateStepName } from "../../core/decide-template.ts";
import type { Handle } from "../../drivers/driver.ts";
import type { Step, StepContext } from "../../operations/workflow.ts";
import { readTemplate } from "../../store/templates.ts";
import { findTemplateMachine } from "../observe-template.ts";
import type { Services } from "../services.ts";

/** A step of making a template; its name is one that `decideTemplate` knows. */
export type TemplateStep = Step & { readonly name: TemplateStepName };

/** The template an operation works on, as it is now. */
export async function targetTemplate(services: Services, context: StepContext): Promise<Template> {
  const template = await readTemplate(services.store.queries, context.operation.target.id);
  if (!template) throw new BerthError("not_found", `The template ${context.operation.target.id} is gone.`);
  return template;
}

/** The template's machine, for steps that come after it was made. */
export async function requireTemplateMachine(services: Services, template: Template): Promise<Handle> {
  const handle = await findTemplateMachine(services, template);
  if (!handle) throw new BerthError("internal", `The driver has no machine of the template ${template.id}.`);
  return handle;
}
