import { BerthError } from "@berth/api";
import type { Step } from "../../operations/workflow.ts";
import { readFolder, readSnapshot } from "../../store/snapshots.ts";
import { archiving } from "../pack-archive.ts";
import type { Services } from "../services.ts";
import { requireSound } from "../sound-layers.ts";

/** Writes a snapshot into an archive, as the instance that it was made of. */
export function writeSnapshotArchive(services: Services): Step {
  const { store, snapshotFolders } = services;
  return archiving(services, async ({ operation, signal }) => {
    const snapshot = await readSnapshot(store.queries, operation.target.id);
    const folder = await readFolder(store.queries, operation.target.id);
    if (!snapshot || folder === undefined)
      throw new BerthError("not_found", `Snapshot ${operation.target.name} is gone.`);
    const { instanceName: name, imageId, image, spec } = snapshot;
    const disks = spec.disks.map((disk) => disk.name);
    // What it has of memory stays behind, so that needs not be sound.
    await requireSound(services, { folder, disks, memory: false }, signal);
    const diskPath = (disk: string) => snapshotFolders.layerPath({ folder, disk });
    return { name, labels: {}, imageId, image, spec, user: snapshotFolders.user, diskPath };
  });
}
