import type { Instance } from "@berth/api";
import { isUntouched } from "../storage/qcow2.ts";
import { listReadyFolders } from "../store/snapshots.ts";
import { diskFile, diskPath } from "./instance-paths.ts";
import type { Services } from "./services.ts";

/**
 * Whether a snapshot of an instance that is off would keep nothing that is not kept: nobody has written to its disks since they began as what a snapshot, or the image, still has.
 * So it is, too, when it has no disks yet.
 */
export async function hasNothingNew(services: Services, { id, spec }: Instance): Promise<boolean> {
  const { folders, snapshotFolders, host, store, nodeId } = services;
  const folder = await folders.find(id);
  if (!folder) return true;
  const kept = new Set(await listReadyFolders(store.queries, nodeId));
  for (const { name } of spec.disks) {
    const path = diskPath(folder.vmPath, name);
    if (!(await host.files.exists(path))) return true;
    const below = await snapshotFolders.below(path);
    if (below && !kept.has(below.folder)) return false;
    // What is no disk at all is for the snapshot to tell.
    if (!(await isUntouched(host, folder.vmPath, diskFile(name)).catch(() => false))) return false;
  }
  return true;
}
