import type { Step } from "../../operations/workflow.ts";
import type { Services } from "../services.ts";

/** Removes the folder of a machine that is nobody's: its disks and logs. */
export function deleteBlankDisks({ folders }: Services): Step & { readonly name: "delete-disks" } {
  return {
    name: "delete-disks",
    async run(context) {
      await folders.remove(context.operation.target.id);
      return undefined;
    },
  };
}
