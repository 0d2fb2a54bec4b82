import { BerthError, type ErrorCode, errorCatalogue, type Instance } from "@berth/api";
import { waitForOperation } from "../operations/wait.ts";
import { readInstance } from "../store/instances.ts";
import type { Store } from "../store/store.ts";
import { openChange } from "./open-change.ts";

/** Has a suspended instance go on, unless somebody is at it already; answers with the operation that is. Undefined when it does not sleep. */
export async function wake(store: Store, id: string, requestedBy: string): Promise<string | undefined> {
  return store.transaction(async (tx) => {
    const instance = await readInstance(tx, id);
    if (!instance || instance.operationId) return instance?.operationId ?? undefined;
    if (instance.status.phase !== "suspended") return undefined;
    const { operation } = await openChange(tx, instance, { verb: "start", force: false, requestedBy });
    return operation.id;
  });
}

/** Wakes an instance for somebody who waits for it; resolves when it does not sleep any more. Rejects with the error that keeps it from waking, or the signal's reason. */
export async function wakeAndWait(store: Store, id: string, requestedBy: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const operationId = await wake(store, id, requestedBy);
    if (operationId === undefined) return;
    const { type, error } = await waitForOperation(store, operationId, Number.POSITIVE_INFINITY, signal);
    signal.throwIfAborted();
    // It may just have been put to sleep.
    if (type !== "instance.start") continue;
    if (error)
      throw new BerthError(error.code in errorCatalogue ? (error.code as ErrorCode) : "internal", error.detail);
    return;
  }
}

/** Whether somebody who needs this instance may wake it. */
export function wakesByItself({ spec, status }: Instance): boolean {
  return status.phase === "suspended" && spec.autosuspend !== null;
}
