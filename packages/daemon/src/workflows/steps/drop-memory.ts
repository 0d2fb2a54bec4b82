import { lockInstance, updateInstance } from "../../store/instances.ts";
import type { Services } from "../services.ts";
import type { InstanceStep } from "./step.ts";

/** Removes the memory of a suspended instance: it can only boot from its disks afterwards, as after a power failure. */
export function dropMemory({ folders }: Services): InstanceStep {
  return {
    name: "drop-memory",
    async run(context) {
      const { id } = context.operation.target;
      await folders.removeMemory(id);
      return {
        write: async (tx) => {
          const current = await lockInstance(tx, id);
          if (current) await updateInstance(tx, id, { status: { ...current.status, memoryBytes: null } });
        },
      };
    },
  };
}
