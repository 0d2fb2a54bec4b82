import { setTimeout as delay } from "node:timers/promises";
import { isRecorded, recordLayers } from "../storage/layer-records.ts";
import { followEvents, lastEventSeq } from "../store/events.ts";
import { listForkFolders } from "../store/instances.ts";
import { listReadyFolders } from "../store/snapshots.ts";
import { collectLayers } from "../workflows/collect-layers.ts";
import { mergeLayers } from "../workflows/merge-layers.ts";
import type { Services } from "../workflows/services.ts";
import type { ControllerLog } from "./controller.ts";
import { Looks } from "./looks.ts";

const hourMs = 3_600_000;
/** Events after which there may be something to do. */
const reasons: ReadonlySet<string> = new Set([
  "snapshot.created",
  "snapshot.deleted",
  "instance.deleted",
  "instance.forked",
]);

/**
 * Looks after the node's frozen files, at the start, once an hour, and when snapshots come or go: removes what a killed daemon left, writes down the checksums of those that
 * came into being with no time for it, and merges those that no snapshot needs.
 */
export async function tendSnapshots(services: Services, log: ControllerLog, signal: AbortSignal): Promise<void> {
  const { store, host, snapshotFolders, nodeId } = services;
  /** What could not be merged, since it is damaged or there is no room: it is read again once an hour, not each time something comes or goes. */
  const refused = new Set<string>();
  const tend = async () => {
    await collectLayers(services);
    const snapshots = await listReadyFolders(store.queries, nodeId);
    for (const folder of [...snapshots, ...(await listForkFolders(store.queries, nodeId))]) {
      signal.throwIfAborted();
      if (await isRecorded(host, snapshotFolders, folder)) continue;
      await recordLayers(host, snapshotFolders, folder, { signal });
    }
    await mergeLayers(services, {
      signal,
      passOver: refused,
      onError: (error, path) => {
        refused.add(path);
        log.error({ path, err: error }, "frozen files could not be merged; they stay as they are");
      },
    });
  };
  const looks = new Looks(1, tend, (_, error) => {
    if (!signal.aborted) log.error({ err: error }, "the snapshots' files could not be looked after");
  });
  const hourly = async () => {
    while (!signal.aborted) {
      refused.clear();
      await looks.ask("all");
      await delay(hourMs, undefined, { signal }).catch(() => undefined);
    }
  };
  const upon = async () => {
    const after = await lastEventSeq(store.queries);
    for await (const event of followEvents(store, { after }, signal)) {
      if (reasons.has(event.type)) void looks.ask("all");
    }
  };
  await Promise.all([hourly(), upon()]);
  await looks.idle();
}
