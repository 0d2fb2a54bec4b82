import { setTimeout as delay } from "node:timers/promises";
import { pruneEvents } from "../store/events.ts";
import { pruneIdempotencyKeys } from "../store/idempotency.ts";
import { deleteFailedImages, deleteUnusedImports } from "../store/images.ts";
import { pruneOperations } from "../store/operations.ts";
import { pruneLogins } from "../store/sessions.ts";
import type { Store } from "../store/store.ts";
import { pruneTokens } from "../store/tokens.ts";
import type { ControllerLog } from "./controller.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** How long what has ended is kept to be read. */
const retention = {
  operationsMs: 30 * dayMs,
  events: { keep: 200_000, maxAgeMs: 30 * dayMs },
  failedImagesMs: hourMs,
  expiredTokensMs: 30 * dayMs,
} as const;

/** Forgets, once an hour, what has been kept long enough. */
export async function prune(store: Store, log: ControllerLog, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const now = await store.now();
      await pruneOperations(store.queries, now - retention.operationsMs);
      await pruneEvents(store.queries, retention.events);
      await pruneIdempotencyKeys(store.queries);
      await deleteFailedImages(store.queries, now - retention.failedImagesMs);
      await deleteUnusedImports(store.queries);
      await pruneLogins(store.queries);
      await pruneTokens(store.queries, now - retention.expiredTokensMs);
    } catch (error) {
      log.error({ err: error }, "what is old could not be forgotten; it is tried again in an hour");
    }
    await delay(hourMs, undefined, { signal }).catch(() => undefined);
  }
}
