import { BerthError } from "@berth/api";
import type { DiskDescription, HostUser } from "../core/descriptions.ts";
import { type Host, ProgramError } from "../host/host.ts";
import { describeDisk, placeDisk, qemuImg } from "./qcow2.ts";

/** A disk for an instance's volumes, as it is to be made. */
export interface VolumesDiskRequest {
  readonly name: string;
  readonly path: string;
  readonly sizeMib: number;
  /** Whose disk it is; null when the daemon is not root. */
  readonly user: HostUser | null;
}

const bytesPerMib = 2 ** 20;
const blockBytes = 4096;
/** How far the file system can grow while it is mounted, in blocks: 1 TiB, as that of a root disk. */
const growthBlocks = 2 ** 40 / blockBytes;
/** As those of a root disk: what ext4 of any kernel since 4.x mounts. */
const features =
  "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize";

/**
 * Makes a disk with an empty ext4 on it, or keeps the one that is there. It stands on nothing and appears under its name only when it is whole. Everything runs as the disk's
 * user. Rejects with `disk_full` or `host_program_failed`.
 */
export async function createVolumesDisk(
  host: Host,
  request: VolumesDiskRequest,
  signal?: AbortSignal,
): Promise<DiskDescription> {
  const { name, path, sizeMib, user } = request;
  const { files } = host;
  if (!(await files.exists(path))) {
    const [raw, half] = [`${path}.raw`, `${path}.new`];
    await files.remove(raw);
    await files.remove(half);
    try {
      await files.makeSparse(raw, sizeMib * bytesPerMib, { mode: 0o600, ...user });
      await makeFileSystem(host, raw, sizeMib, user, signal);
      await qemuImg(host, ["convert", "-f", "raw", "-O", "qcow2", raw, half], user, signal);
    } finally {
      await files.remove(raw);
    }
    await files.chmod(half, 0o600);
    await placeDisk(host, half, path);
  }
  return describeDisk(name, path);
}

async function makeFileSystem(
  host: Host,
  path: string,
  sizeMib: number,
  user: HostUser | null,
  signal: AbortSignal | undefined,
): Promise<void> {
  const growth = (sizeMib * bytesPerMib) / blockBytes < growthBlocks ? [`resize=${growthBlocks}`] : [];
  const extended = [...growth, "root_owner=0:0", "lazy_itable_init=0", "lazy_journal_init=0"].join(",");
  const args = ["-q", "-F", "-t", "ext4", "-O", features, "-b", String(blockBytes), "-I", "256", "-m", "0"];
  try {
    await host.run("mke2fs", [...args, "-E", extended, path], {
      ...user,
      // Without the host's own mke2fs.conf, which differs between distributions.
      env: { MKE2FS_CONFIG: "/dev/null", MKE2FS_SKIP_CHECK_MSG: "1" },
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    if (!(error instanceof ProgramError) || error.reason === "aborted") throw error;
    throw new BerthError(error.isDiskFull ? "disk_full" : "host_program_failed", error.message, { cause: error });
  }
}
