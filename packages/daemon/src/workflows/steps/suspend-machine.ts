import { BerthError, type Instance } from "@berth/api";
import type { Driver, Handle } from "../../drivers/driver.ts";
import { connectionsOf } from "../connections.ts";
import { attachGuest } from "../guest-access.ts";
import { InstanceInput } from "../instance-input.ts";
import { findHandle } from "../observe-instance.ts";
import { runPorts } from "../run-ports.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, requireHandle, targetInstance } from "./step.ts";

/** How long the guest may take to stand still, or to be let go, in milliseconds. */
const holdMs = 5_000;

/** Thrown where it turns out that somebody has something to do with an instance that was to sleep because nobody had. */
class Busy extends Error {}

/**
 * Saves the memory of a running machine and powers it off; one that is woken by connections has its ports taken over first. One that should sleep only while nobody needs
 * it, and somebody does, stays as it is.
 */
export function suspendMachine(services: Services): InstanceStep {
  const { folders, guests, standIns } = services;

  const save = async (instance: Instance, driver: Driver, handle: Handle, onlyIdle: boolean, signal: AbortSignal) => {
    const { id } = instance;
    if (!driver.saveMemory) throw new BerthError("unsupported_by_driver", `${instance.location} cannot save memory.`);
    const ports = await runPorts(services, instance);
    if (instance.spec.autosuspend) await standIns.divert(id, ports);
    await driver.saveMemory(
      handle,
      {
        folder: folders.memoryPath(id),
        use: "own",
        switches: [],
        afterwards: "off",
        beforePause: async () => {
          if (onlyIdle && (await connectionsOf(services, instance, handle, ports)) > 0) throw new Busy();
          await guests.hold(id, AbortSignal.any([signal, AbortSignal.timeout(holdMs)]));
        },
      },
      signal,
    );
    guests.detach(id);
    // Whoever has taken a port meanwhile keeps it, and the instance sleeps; it is tried again as long as it does.
    if (instance.spec.autosuspend) await standIns.own(id, ports).catch(() => undefined);
  };

  /** The machine goes on as if nothing had been asked; one that is off already sleeps, as was asked. */
  const goOn = async (instance: Instance, driver: Driver, handle: Handle) => {
    const { power } = await driver.inspect(handle);
    if (power === "stopped") return;
    await folders.removeMemory(instance.id);
    if (power === "paused") await driver.start(handle, AbortSignal.timeout(holdMs));
    await attachGuest(services, instance, driver, handle);
    // It lets go by itself after a moment, should it not hear this.
    await guests.release(instance.id, AbortSignal.timeout(holdMs)).catch(() => undefined);
  };

  return {
    name: "suspend-machine",
    async run(context) {
      const instance = await targetInstance(services, context);
      const driver = services.driver(instance.location);
      const handle = await requireHandle(services, instance);
      const { onlyIdle } = InstanceInput.parse(context.operation.input);
      await attachGuest(services, instance, driver, handle);
      try {
        await save(instance, driver, handle, onlyIdle, context.signal);
        return undefined;
      } catch (error) {
        if (!(error instanceof Busy)) throw error;
        await goOn(instance, driver, handle);
        return { result: "busy" };
      }
    },
    async undo(context) {
      const instance = await targetInstance(services, context);
      const handle = await findHandle(services, instance);
      if (handle) await goOn(instance, services.driver(instance.location), handle);
      if ((await folders.memoryBytes(instance.id)) === null) await standIns.giveBack(instance.id);
    },
  };
}
