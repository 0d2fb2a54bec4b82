import { BerthError, type Instance } from "@berth/api";
import type { Driver, Handle } from "../drivers/driver.ts";
import { attachGuest } from "./guest-access.ts";
import type { Services } from "./services.ts";

/**
 * Asks the guest of a machine that runs, as soon as it is connected; both together take so many milliseconds at most. Rejects as `answered`.
 */
export async function askGuest(
  services: Services,
  { instance, driver, handle }: { readonly instance: Instance; readonly driver: Driver; readonly handle: Handle },
  { ms, signal }: { readonly ms: number; readonly signal: AbortSignal },
  ask: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  await attachGuest(services, instance, driver, handle);
  await answered(ms, signal, async (limit) => {
    await services.guests.waitFor(instance.id, ({ connected }) => connected, limit);
    await ask(limit);
  });
}

/**
 * Waits so many milliseconds at most for what a guest is asked. Rejects with `guest_unreachable` when it does not answer in time, with what it answers otherwise, or with the
 * signal's reason.
 */
export async function answered<T>(
  ms: number,
  signal: AbortSignal,
  ask: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  try {
    return await ask(AbortSignal.any([signal, AbortSignal.timeout(ms)]));
  } catch (error) {
    if (signal.aborted || error instanceof BerthError) throw error;
    throw new BerthError("guest_unreachable", `The guest did not answer within ${ms / 1000} s.`, { cause: error });
  }
}
