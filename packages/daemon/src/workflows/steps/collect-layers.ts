import { collectLayers as collect } from "../collect-layers.ts";
import type { Services } from "../services.ts";
import type { InstanceStep } from "./step.ts";

/** Removes the frozen files that nothing stands on any more, and writes down what each snapshot holds now. An instance that is going stands on nothing. */
export function collectLayers(services: Services): InstanceStep {
  return {
    name: "collect-layers",
    async run({ operation }) {
      const leaving = operation.type === "instance.delete" ? operation.target.id : undefined;
      await collect(services, leaving);
      return undefined;
    },
  };
}
