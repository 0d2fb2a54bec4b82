import { basename, dirname } from "node:path";
import { BerthError } from "@berth/api";
import { z } from "zod";
import type { DiskDescription, HostUser } from "../core/descriptions.ts";
import { type Host, isNoSpace, ProgramError } from "../host/host.ts";
import { maxHeaderBytes, parseQcow2Header } from "./qcow2-header.ts";

/** A copy-on-write disk over a file that others may share. */
export interface OverlayRequest {
  readonly name: string;
  readonly path: string;
  /** An image's artifact, or a snapshot's file: never written to any more, and there as long as the overlay is. */
  readonly backingPath: string;
  /** `raw`, as artifacts are, when not given. */
  readonly backingFormat?: "raw" | "qcow2";
  /** How large the guest sees it; as large as what is below when that is larger. */
  readonly sizeMib: number;
  /** Whose disk it is; null when the daemon is not root. */
  readonly user: HostUser | null;
}

/** What is known of a qcow2 disk. */
export interface Qcow2Facts {
  readonly sizeBytes: number;
  /** Bytes it takes on the host. */
  readonly usedBytes: number;
  readonly backingPath: string | null;
}

/** The part of `qemu-img info --output=json` that is used (QEMU's qapi/block-core.json, ImageInfo). */
const ImageInfo = z.object({
  format: z.literal("qcow2"),
  "virtual-size": z.number(),
  "actual-size": z.number(),
  "full-backing-filename": z.string().optional(),
});

const bytesPerMib = 1024 * 1024;

/**
 * Makes the overlay, or keeps the one that is there: its size is then left as it is. It appears under its name only when it is whole.
 * Everything runs as the disk's user, so nothing that user put in its folder can lead elsewhere.
 * Rejects with `disk_full`, or `host_program_failed` with qemu-img's words.
 */
export async function createOverlay(
  host: Host,
  request: OverlayRequest,
  signal?: AbortSignal,
): Promise<DiskDescription> {
  const { path, backingPath, backingFormat = "raw" } = request;
  if (!(await host.files.exists(path))) {
    const backingBytes = await sizeOf(host, backingPath, backingFormat);
    if (backingBytes === undefined) throw new Error(`There is no ${backingFormat} image ${backingPath}`);
    const size = Math.max(request.sizeMib * bytesPerMib, backingBytes);
    await makeOverlay(host, request, size, signal);
  }
  return describeDisk(request.name, path);
}

/** What fresh overlays of artifacts are, byte for byte: the same over the same at the same size. Those used last come last. */
const freshOverlays = new Map<string, Uint8Array>();
const keptOverlays = 32;
/** An overlay's tables grow with its size (QEMU's docs/interop/qcow2.txt); one this large is rare. */
const maxKeptBytes = 1024 * 1024;

async function makeOverlay(host: Host, request: OverlayRequest, size: number, signal?: AbortSignal): Promise<void> {
  const { path, backingPath, backingFormat = "raw", user } = request;
  const key = JSON.stringify([host.name, backingFormat, backingPath, size]);
  const known = freshOverlays.get(key);
  freshOverlays.delete(key);
  if (known) {
    freshOverlays.set(key, known);
    return writeWhole(host, path, known, user);
  }
  const half = `${path}.new`;
  await host.files.remove(half);
  // What is below is not opened: a machine may still be writing to it.
  const args = ["create", "-q", "-f", "qcow2", "-u", "-F", backingFormat, "-b", backingPath, half, String(size)];
  await qemuImg(host, args, user, signal);
  await host.files.chmod(half, 0o600);
  // Snapshots' files come and go; many are made over an artifact.
  const made = backingFormat === "raw" ? await host.files.readHead(half, maxKeptBytes + 1) : undefined;
  await placeDisk(host, half, path);
  if (!made || made.length > maxKeptBytes) return;
  freshOverlays.set(key, made);
  for (const oldest of [...freshOverlays.keys()].slice(0, -keptOverlays)) freshOverlays.delete(oldest);
}

function writeWhole(host: Host, path: string, content: Uint8Array, user: HostUser | null): Promise<void> {
  return host.files.writeAtomic(path, content, { mode: 0o600, ...user }).catch((error) => explainNoSpace(path, error));
}

/** Gives a disk that is made its name, durably: one that has its name is taken as it is ever after. Rejects with `disk_full`. */
export function placeDisk(host: Host, half: string, path: string): Promise<void> {
  return host.files.renameSynced(half, path).catch((error) => explainNoSpace(path, error));
}

function explainNoSpace(path: string, cause: unknown): never {
  if (!isNoSpace(cause)) throw cause;
  throw new BerthError("disk_full", `No space is left for the disk ${path}.`, { cause });
}

/** How large a guest sees an image; undefined when there is none. */
async function sizeOf(host: Host, path: string, format: "raw" | "qcow2"): Promise<number | undefined> {
  if (format === "raw") return host.files.size(path);
  const head = await host.files.readHead(path, maxHeaderBytes);
  return head && parseQcow2Header(head)?.sizeBytes;
}

/** A disk as a driver takes it; pure. */
export function describeDisk(name: string, path: string): DiskDescription {
  return { name, path, format: "qcow2", readOnly: false };
}

/** Reads the disk's facts, also while a guest writes to it; undefined when it is not there. */
export async function inspectOverlay(host: Host, path: string, user: HostUser | null): Promise<Qcow2Facts | undefined> {
  if (!(await host.files.exists(path))) return undefined;
  const { stdout } = await qemuImg(host, ["info", "--output=json", "-U", "-f", "qcow2", path], user);
  const info = ImageInfo.parse(JSON.parse(stdout));
  return {
    sizeBytes: info["virtual-size"],
    usedBytes: info["actual-size"],
    backingPath: info["full-backing-filename"] ?? null,
  };
}

/** The parts of a qcow2 header that say where its first-level table is (QEMU's docs/interop/qcow2.txt). */
const header = { magic: 0x514649fb, entries: 36, table: 40, length: 104 } as const;

/**
 * Whether nothing was ever written to an overlay: it shows exactly what is below it. Read from the disk itself, whose owner may be hostile. Rejects when it is not
 * there or is no qcow2 disk.
 */
export async function isUntouched(host: Host, folder: string, fileName: string): Promise<boolean> {
  const file = await host.files.openUntrusted(folder, fileName);
  if (!file) throw new Error(`The disk ${fileName} is not there`);
  try {
    const head = Buffer.from(await file.read(0));
    if (head.length < header.length || head.readUInt32BE(0) !== header.magic)
      throw new Error(`${fileName} is no qcow2 disk`);
    const start = Number(head.readBigUInt64BE(header.table));
    const end = start + head.readUInt32BE(header.entries) * 8;
    for (let position = start; position < end; ) {
      const part = (await file.read(position)).subarray(0, end - position);
      if (part.length === 0) return false;
      // An entry that leads somewhere: something was written below it.
      if (part.some((byte) => byte !== 0)) return false;
      position += part.length;
    }
    return true;
  } finally {
    await file.close();
  }
}

/** Grows a disk that no guest uses; one already as large stays as it is, so it never loses anything. */
export async function growOverlay(host: Host, path: string, sizeMib: number, user: HostUser | null): Promise<void> {
  // Asked of the disk itself and not of qemu-img: every start asks. Whose disk it is may be hostile.
  const file = await host.files.openUntrusted(dirname(path), basename(path));
  if (!file) throw new Error(`The disk ${path} is not there`);
  const header = parseQcow2Header(await file.read(0).finally(() => file.close()));
  if (!header) throw new BerthError("host_program_failed", `The disk ${path} is no qcow2 file.`);
  const wanted = sizeMib * bytesPerMib;
  if (wanted > header.sizeBytes) await qemuImg(host, ["resize", "-q", "-f", "qcow2", path, String(wanted)], user);
}

/** Removes the disk and what a broken off creation left; resolves when there is nothing. */
export async function removeOverlay(host: Host, path: string): Promise<void> {
  await host.files.remove(`${path}.new`);
  await host.files.remove(path);
}

/**
 * Runs qemu-img, as the disk's user when there is one, for at most 60 s: a conversion of a whole disk has `convertDisk`. Rejects with `disk_full`, `host_program_failed` with its words, or
 * a ProgramError `aborted` once the signal is.
 */
export async function qemuImg(host: Host, args: readonly string[], user: HostUser | null, signal?: AbortSignal) {
  try {
    return await host.run("qemu-img", args, { ...user, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (!(error instanceof ProgramError) || error.reason === "aborted") throw error;
    throw new BerthError(error.isDiskFull ? "disk_full" : "host_program_failed", error.message, { cause: error });
  }
}
