import { BerthError } from "@berth/api";
import type { Merge } from "../core/layers.ts";
import type { Host } from "../host/host.ts";
import { convertDisk, type DiskWork } from "./packed-disk.ts";
import { qemuImg } from "./qcow2.ts";
import type { SnapshotFolders } from "./snapshot-folders.ts";

/** What must be left on the file system beside the copy. */
const spareBytes = 64 * 2 ** 20;

/**
 * Makes, beside a frozen file, one that shows the same and stands on what is below the hidden ones: at `SnapshotFolders.halfPath`, synced, and as the frozen one the daemon's own
 * and read-only. Nothing that is there is changed. It reads what guests may have made up as a user who owns nothing else. Rejects with `disk_full` or `host_program_failed`.
 */
export async function makeMerged(
  host: Host,
  folders: SnapshotFolders,
  { into, hidden }: Merge,
  work: DiskWork,
): Promise<void> {
  const { files } = host;
  const { user } = folders;
  const path = folders.layerPath(into);
  const half = folders.halfPath(into);
  const neededBytes = [into, ...hidden].reduce((sum, { usedBytes }) => sum + usedBytes, spareBytes);
  const freeBytes = await files.freeBytes(folders.path(into.folder));
  if (freeBytes < neededBytes)
    throw new BerthError("disk_full", `Merging takes up to ${neededBytes} bytes, and ${freeBytes} are free.`);
  const sizeBytes = await folders.sizeBytes(path);
  const lowest = hidden.at(-1);
  if (!sizeBytes || !lowest) throw new Error(`${path} is no disk that anything can be merged into`);
  const onto = await folders.backing(folders.layerPath(lowest));
  await files.remove(half);
  // Over the frozen file, which is not opened for that; then all is copied that is not in what it shall stand on.
  const created = ["create", "-q", "-f", "qcow2", "-u", "-F", "qcow2", "-b", path, half, String(sizeBytes)];
  await qemuImg(host, created, null, work.signal);
  if (user) await files.chown(half, user.uid, user.gid);
  // What a guest has discarded takes no room: zeroes are not written.
  const image = `driver=qcow2,detect-zeroes=unmap,discard=unmap,file.driver=file,file.filename=${half.replaceAll(",", ",,")}`;
  const below = onto ? ["-F", onto.format, "-b", onto.path] : ["-b", ""];
  await convertDisk(host, ["qemu-img", "rebase", "-p", "--image-opts", ...below, image], user, work);
  if (user) await files.chown(half, 0, 0);
  await files.chmod(half, user ? 0o444 : 0o400);
  await files.sync(half);
}
