import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import { BerthError } from "@berth/api";
import type { HostUser } from "../core/descriptions.ts";
import { type Host, ProgramError } from "../host/host.ts";
import { convertDisk, type DiskWork } from "./packed-disk.ts";
import { inspectOverlay } from "./qcow2.ts";

/** A disk to be written out as a file that stands on nothing. */
export interface FlattenRequest {
  /** A frozen file: nobody writes to it or to what it stands on. */
  readonly sourcePath: string;
  /** Not there yet; its folder is one that the user may pass through. */
  readonly targetPath: string;
  /** Who reads the disk and what it stands on, and reaches nothing else; null when the daemon is not root. */
  readonly user: HostUser | null;
}

/** e2fsck(8): it corrected something, which is what it was asked for. */
const corrected = 1;
const journalTimeoutMs = 600_000;

/**
 * Writes all that a guest sees of a disk with an ext4 file system into a raw file with holes, and finishes in it what the file system's journal had begun, so that it can be mounted
 * without being written to. The file is the daemon's own afterwards. Rejects with `disk_full`, `host_program_failed`, or `snapshot_damaged` when its file system cannot be read.
 */
export async function flattenDisk(host: Host, request: FlattenRequest, work: DiskWork): Promise<void> {
  const { sourcePath, targetPath, user } = request;
  const facts = await inspectOverlay(host, sourcePath, user);
  if (!facts) throw new BerthError("snapshot_damaged", "Its root disk is gone.");
  await host.files.makeSparse(targetPath, facts.sizeBytes, { mode: 0o600, ...user });
  const args = ["convert", "-p", "-n", "--target-is-zero", "-f", "qcow2", "-O", "raw", sourcePath, targetPath];
  await convertDisk(host, ["qemu-img", ...args], user, work);
  await finishJournal(host, targetPath, user, work.signal);
  const { uid, gid } = await host.facts();
  await host.files.chown(targetPath, uid, gid);
  await host.files.chmod(targetPath, 0o644);
  await host.files.sync(targetPath);
}

const blockBytes = 2 ** 20;

/**
 * SHA-256, in hex, over what of a raw file is not zero: each such mebibyte after its number, and at last how long the file is. Disks that show the same have the same one, wherever
 * their holes are, and what nobody wrote to costs no time.
 */
export async function sumOfDisk(path: string, { signal, progress }: DiskWork): Promise<string> {
  const hash = createHash("sha256");
  const zeros = Buffer.alloc(blockBytes);
  const block = Buffer.alloc(blockBytes);
  const file = await open(path, "r");
  try {
    const { size } = await file.stat();
    for (let at = 0; at < size; at += blockBytes) {
      signal.throwIfAborted();
      const { bytesRead } = await file.read(block, 0, blockBytes, at);
      const part = block.subarray(0, bytesRead);
      if (!part.equals(zeros.subarray(0, bytesRead))) hash.update(`${at / blockBytes}:`).update(part);
      progress((at / size) * 100);
    }
    return hash.update(`${size}`).digest("hex");
  } finally {
    await file.close();
  }
}

async function finishJournal(host: Host, path: string, user: HostUser | null, signal: AbortSignal): Promise<void> {
  try {
    await host.run("e2fsck", ["-p", "-E", "journal_only", path], { ...user, signal, timeoutMs: journalTimeoutMs });
  } catch (error) {
    if (!(error instanceof ProgramError) || error.reason !== "exit") throw error;
    if (error.exitCode === corrected) return;
    if (error.isDiskFull) throw new BerthError("disk_full", error.message, { cause: error });
    const detail = `Its root disk holds no file system that can be read: ${error.message}`;
    throw new BerthError("snapshot_damaged", detail, { cause: error });
  }
}
