import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Gives an instance its ports back: its machine gets those who wait there, or they are let go when it is off. */
export function giveBackPorts(services: Services): InstanceStep {
  const { standIns } = services;
  return {
    name: "give-back-ports",
    async run(context) {
      const instance = await targetInstance(services, context);
      const handle = await findHandle(services, instance);
      const power = handle ? (await services.driver(instance.location).inspect(handle)).power : "stopped";
      await (power === "running" ? standIns.giveBack(instance.id) : standIns.letGo(instance.id));
      return undefined;
    },
  };
}
