import type { Instance } from "@berth/api";
import { runOf } from "../../core/instance-run.ts";
import type { Driver, Handle } from "../../drivers/driver.ts";
import { readInstance, updateInstance } from "../../store/instances.ts";
import { attachGuest } from "../guest-access.ts";
import { InstanceInput } from "../instance-input.ts";
import { machineInputs } from "../machine-inputs.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, requireHandle, targetInstance } from "./step.ts";

/** Powers the machine on, made anew of what is wished for now, and begins to listen to its guest. */
export function startMachine(services: Services): InstanceStep {
  const { guests, network } = services;
  return {
    name: "start-machine",
    async run(context) {
      const instance = await targetInstance(services, context);
      const driver = services.driver(instance.location);
      const handle = await requireHandle(services, instance);
      await network.prepare();
      // One that is only paused goes on as it was started.
      if ((await driver.inspect(handle)).power === "stopped") await makeAnew(services, instance, driver, handle);
      await driver.start(handle, context.signal);
      // What was heard of an earlier run is of no use for this one.
      guests.detach(instance.id);
      await attachGuest(services, instance, driver, handle);
      const { restartGeneration } = InstanceInput.parse(context.operation.input);
      return {
        write: async (tx) => {
          const current = await readInstance(tx, instance.id);
          if (!current) return;
          const status = { ...current.status, restartGeneration, exitCode: null, reason: "" };
          await updateInstance(tx, instance.id, { status });
        },
      };
    },
    async undo(context) {
      const instance = await targetInstance(services, context);
      const handle = await findHandle(services, instance);
      guests.detach(instance.id);
      if (handle) await services.driver(instance.location).powerOff(handle);
    },
  };
}

/** The run is written down before it begins: should the daemon die meanwhile, what the guest is told later still fits the machine. */
async function makeAnew(services: Services, instance: Instance, driver: Driver, handle: Handle): Promise<void> {
  const run = runOf(instance);
  await services.store.transaction((tx) => updateInstance(tx, instance.id, { run }));
  await driver.configure(handle, await machineInputs(services, instance, run));
}
