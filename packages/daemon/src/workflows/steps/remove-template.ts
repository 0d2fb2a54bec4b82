import type { Step } from "../../operations/workflow.ts";
import type { Services } from "../services.ts";

/** Removes a template's memory from the disk. What was cloned from it has memory of its own and goes on. */
export function removeTemplate({ templates }: Services): Step {
  return {
    name: "remove-template",
    async run(context) {
      await templates.remove(context.operation.target.id);
      return undefined;
    },
  };
}
