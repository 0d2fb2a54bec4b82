import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { BerthError, isFinal, type Operation } from "@berth/api";
import { cancelOperation } from "../operations/start.ts";
import type { Services } from "../server/services.ts";
import { readLog } from "../store/operation-log.ts";
import { listOperations, operationTopic, readOperation } from "../store/operations.ts";
import type { Store } from "../store/store.ts";

/** The least time between two answers of `watch`, in milliseconds: what happens in one go is told once. Somebody waits for the last of them, so it is short. */
const watchIntervalMs = 20;
const logBatch = 1000;

/** Operations, as the server asks for them. */
export function operationServices(store: Store): Services["operations"] {
  const get = async (id: string): Promise<Operation> => {
    const operation = await readOperation(store.queries, id);
    if (!operation) throw new BerthError("not_found", `There is no operation ${id}.`);
    return operation;
  };

  async function* watch(id: string, signal: AbortSignal): AsyncGenerator<Operation, void> {
    using subscription = store.wake.subscribe(operationTopic(id));
    let shown = "";
    while (!signal.aborted) {
      const operation = await get(id);
      const text = JSON.stringify(operation);
      const since = performance.now();
      if (text !== shown) yield operation;
      shown = text;
      if (isFinal(operation.status)) return;
      await subscription.wait(signal);
      const early = watchIntervalMs - (performance.now() - since);
      if (early > 0) await delay(early, undefined, { signal }).catch(() => undefined);
    }
  }

  async function* logText(id: string, follow: boolean, signal: AbortSignal): AsyncGenerator<string, void> {
    using subscription = store.wake.subscribe(operationTopic(id));
    let after = 0;
    while (!signal.aborted) {
      const { status } = await get(id);
      const lines = await readLog(store.queries, id, after, logBatch);
      for (const { seq, line } of lines) {
        if (seq > after + 1) yield `… ${seq - after - 1} lines left out …\n`;
        yield `${line}\n`;
        after = seq;
      }
      if (lines.length === logBatch) continue;
      if (!follow || isFinal(status)) return;
      await subscription.wait(signal);
    }
  }

  return {
    async list(scope, query) {
      const { rows, nextCursor } = await listOperations(store.queries, {
        ...query,
        project: scope.project,
        unfinished: query.unfinished || undefined,
      });
      return { items: rows, nextCursor };
    },
    get,
    watch,
    cancel: (id) => store.transaction((tx) => cancelOperation(tx, id)),
    async log(id, { follow, signal }) {
      await get(id);
      return Readable.from(logText(id, follow, signal));
    },
  };
}
