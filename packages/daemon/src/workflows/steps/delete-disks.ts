import type { Services } from "../services.ts";
import type { InstanceStep } from "./step.ts";

/** Removes the instance's folder: its disks, logs and keys. */
export function deleteDisks({ folders }: Services): InstanceStep {
  return {
    name: "delete-disks",
    async run(context) {
      await folders.remove(context.operation.target.id);
      return undefined;
    },
  };
}
