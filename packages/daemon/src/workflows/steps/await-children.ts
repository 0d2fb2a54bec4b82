import type { SeenChild } from "../../core/decide-fork.ts";
import { seenState } from "../../core/instance-status.ts";
import type { Json, Step } from "../../operations/workflow.ts";
import { forEachChild } from "../fork-record.ts";
import { findHandle, observeRun } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { awaitReady } from "./await-ready.ts";
import { targetInstance } from "./step.ts";

/** Waits until each child is ready, or has ended, or its time has passed. Its result is how each was seen then: `SeenChild`, in their order. */
export function awaitChildren(services: Services): Step {
  const ready = awaitReady(services);
  return {
    name: "await-children",
    async run(context) {
      const result = await forEachChild(context, async (child): Promise<SeenChild> => {
        await ready.run(child);
        const instance = await targetInstance(services, child);
        const seen = await observeRun(services, instance, await findHandle(services, instance));
        const publishes = instance.spec.ports.some(({ protocol }) => protocol === "tcp");
        return { ...seenState(seen), name: instance.name, publishes };
      });
      return { result: result as unknown as Json };
    },
  };
}
