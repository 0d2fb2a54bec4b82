import type { Step } from "../../operations/workflow.ts";
import type { Services } from "../services.ts";

/** Removes an archive's file. */
export function removeArchive({ archives }: Services): Step {
  return {
    name: "remove-archive",
    async run(context) {
      await archives.remove(context.operation.target.id);
      return undefined;
    },
  };
}
