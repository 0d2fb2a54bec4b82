import { BerthError } from "@berth/api";

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
