import type { Step } from "../../operations/workflow.ts";
import { forEachChild } from "../fork-record.ts";
import type { Services } from "../services.ts";
import { startMachine } from "./start-machine.ts";

/** Lets all children go on from their parent's memory. */
export function startChildren(services: Services): Step {
  const start = startMachine(services);
  return {
    name: "start-children",
    async run(context) {
      const begun = await forEachChild(context, (child) => start.run(child));
      return {
        write: async (tx) => {
          for (const outcome of begun) await outcome?.write?.(tx);
        },
      };
    },
    async undo(context) {
      await forEachChild(context, async (child) => start.undo?.(child));
    },
  };
}
