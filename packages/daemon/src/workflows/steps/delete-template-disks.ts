import type { Services } from "../services.ts";
import type { TemplateStep } from "./template-step.ts";

/** Removes the folder of a template's machine: its disks and logs. */
export function deleteTemplateDisks({ folders }: Services): TemplateStep {
  return {
    name: "delete-disks",
    async run(context) {
      await folders.remove(context.operation.target.id);
      return undefined;
    },
  };
}
