import { BerthError, isFinal, type Operation } from "@berth/api";
import { operationTopic, readOperation } from "../store/operations.ts";
import type { Store } from "../store/store.ts";

/** The operation as it is when it has ended, or after `timeoutMs`, or when aborted, whichever is first. Rejects with BerthError `not_found`. */
export async function waitForOperation(
  store: Store,
  id: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Operation> {
  const deadline = performance.now() + timeoutMs;
  using subscription = store.wake.subscribe(operationTopic(id));
  for (;;) {
    const operation = await readOperation(store.queries, id);
    if (!operation) throw new BerthError("not_found", `There is no operation ${id}.`);
    const remaining = deadline - performance.now();
    if (isFinal(operation.status) || remaining <= 0 || signal.aborted) return operation;
    await subscription.wait(signal, remaining);
  }
}
