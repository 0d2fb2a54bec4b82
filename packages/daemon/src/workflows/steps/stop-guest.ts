import { constants } from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { signalNumber } from "../../host/signal-number.ts";
import { readImage } from "../../store/images.ts";
import { attachGuest } from "../guest-access.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, requireHandle, targetInstance } from "./step.ts";

/** For images that are here since before stop signals were checked. */
const { SIGTERM } = constants.signals;
/** How long a guest may take to shut itself down after its process ended, in milliseconds. */
const shutdownMs = 3_000;
/** How long a guest may take to be reached at all, in milliseconds; a part of its deadline. */
const reachMs = 2_000;
/** How often the machine is looked at while it goes off, in milliseconds: the end of QEMU itself tells nobody. */
const lookMs = 50;

/**
 * Asks the guest to end its process by the image's stop signal, and to power off. Resolves when the machine is off or the instance's
 * deadline has passed; what is still on then has its power cut by the next step.
 */
export function stopGuest(services: Services): InstanceStep {
  const { guests, store } = services;
  return {
    name: "stop-guest",
    async run(context) {
      const instance = await targetInstance(services, context);
      const driver = services.driver(instance.location);
      const handle = await requireHandle(services, instance);
      await attachGuest(services, instance, driver, handle);
      const { stopTimeoutMs } = instance.spec;
      const stopSignal = (await readImage(store.queries, instance.imageId))?.startConfig?.stopSignal ?? "";
      const deadline = performance.now() + stopTimeoutMs + shutdownMs;
      const reach = AbortSignal.any([context.signal, AbortSignal.timeout(reachMs)]);
      await guests.waitFor(instance.id, ({ connected }) => connected, reach).catch(() => undefined);
      // Whoever goes on after a shutdown takes a step that ended for a guest that was asked, and cuts its power.
      context.signal.throwIfAborted();
      if (!guests.stop(instance.id, { signal: signalNumber(stopSignal) ?? SIGTERM, timeoutMs: stopTimeoutMs }))
        return undefined;
      while (performance.now() < deadline && (await driver.inspect(handle)).power !== "stopped") {
        await delay(lookMs, undefined, { signal: context.signal });
      }
      return undefined;
    },
  };
}
