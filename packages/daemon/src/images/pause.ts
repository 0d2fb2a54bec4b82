import { setTimeout as delay } from "node:timers/promises";

/** Resolves after a time; rejects with the signal's reason, where `delay` has an error of its own, as soon as it is aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
}
