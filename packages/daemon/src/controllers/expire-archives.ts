import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import { listExpiredArchives } from "../store/archives.ts";
import type { Store } from "../store/store.ts";
import { startArchiveDelete } from "../workflows/archive-record.ts";
import type { ControllerLog } from "./controller.ts";

/** How often it is looked whether an archive's time is up, in milliseconds. */
const lookMs = 10 * 60_000;

/** Deletes the archives of a node that nobody has read for a day. */
export async function expireArchives(
  store: Store,
  nodeId: string,
  log: ControllerLog,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await deleteExpired(store, nodeId).catch((error: unknown) =>
      log.error({ err: error }, "archives whose time is up could not be deleted; it is tried again"),
    );
    await delay(lookMs, undefined, { signal }).catch(() => undefined);
  }
}

async function deleteExpired(store: Store, nodeId: string): Promise<void> {
  for (const archive of await listExpiredArchives(store.queries, nodeId)) {
    await store
      .transaction((tx) => startArchiveDelete(tx, archive, "expire-archives"))
      .catch((error: unknown) => {
        // Somebody else began to delete it meanwhile.
        if (!(error instanceof BerthError && error.code === "busy")) throw error;
      });
  }
}
