import { attachGuest } from "../guest-access.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, requireHandle, targetInstance } from "./step.ts";

/**
 * Waits until the guest says that it is ready, or that its process ended or could not start, or is gone; at the latest until the time limit.
 * It only waits: what came of it is observed afterwards. Its result is `in vain` when the time limit has passed.
 */
export function awaitReady(services: Services): InstanceStep {
  const { guests, readyTimeoutMs } = services;
  return {
    name: "await-ready",
    async run(context) {
      const instance = await targetInstance(services, context);
      const handle = await requireHandle(services, instance);
      // After a restart of the daemon nobody listens yet.
      await attachGuest(services, instance, services.driver(instance.location), handle);
      const limit = AbortSignal.timeout(readyTimeoutMs);
      const signal = AbortSignal.any([context.signal, limit]);
      try {
        await guests.waitFor(
          instance.id,
          ({ ready, exit, failure, gone }) => ready || exit !== null || failure !== null || gone,
          signal,
        );
      } catch (error) {
        if (!limit.aborted) throw error;
        return { result: "in vain" };
      }
      return undefined;
    },
  };
}
