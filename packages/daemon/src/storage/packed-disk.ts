import { open, truncate } from "node:fs/promises";
import { BerthError } from "@berth/api";
import { z } from "zod";
import type { HostUser } from "../core/descriptions.ts";
import { type Host, ProgramError } from "../host/host.ts";
import { writeFully } from "../host/write-fully.ts";
import { inspectOverlay, placeDisk, qemuImg } from "./qcow2.ts";
import { maxHeaderBytes, refuseQcow2 } from "./qcow2-header.ts";

/** A qcow2 file that stands on its own, inside another file: compressed, without backing. */
export interface PackedDisk {
  /** The file it is in. */
  readonly path: string;
  readonly offset: number;
  readonly fileBytes: number;
  /** How large the guest sees it. */
  readonly sizeBytes: number;
}

/** How packing and unpacking is stopped, and told of. */
export interface DiskWork {
  readonly signal: AbortSignal;
  progress(percent: number): void;
}

/** Where a disk is packed from, and to. */
export interface PackRequest {
  readonly sourcePath: string;
  /** Whose disk it is; null when the daemon is not root. All that the disk leads to is read as this user, and no more. */
  readonly user: HostUser | null;
  /** A file that ends where the disk shall begin, and that the user may write to. */
  readonly targetPath: string;
  readonly offset: number;
}

const sectorBytes = 512;
const bytesPerMib = 1024 * 1024;
/** What looking at a hostile disk may cost: address space in bytes, and seconds of a CPU. */
const lookLimits = { memoryBytes: 2 * 2 ** 30, cpuSeconds: 300 } as const;

/**
 * Packs what a guest sees of a disk that no guest uses; the file grows by that. Resolves with the size the guest sees. Rejects with `disk_full`, or `host_program_failed` with
 * qemu-img's words.
 */
export async function packDisk(host: Host, request: PackRequest, work: DiskWork): Promise<{ sizeBytes: number }> {
  const { sourcePath, user, targetPath, offset } = request;
  const facts = await inspectOverlay(host, sourcePath, user);
  if (!facts) throw new BerthError("disk_missing", `The disk ${sourcePath} is not there.`);
  await putEmptyDisk(host, targetPath, offset, facts.sizeBytes);
  const target = packedFile({ path: targetPath, offset });
  const args = ["convert", "-p", "-n", "--target-is-zero", "-c", "-f", "qcow2", "-O", "qcow2", sourcePath, target];
  await convertDisk(host, ["qemu-img", ...args], user, work);
  // A part of a file is read in whole sectors.
  const end = (await host.files.size(targetPath)) ?? 0;
  await truncate(targetPath, Math.ceil((end - offset) / sectorBytes) * sectorBytes + offset);
  return { sizeBytes: facts.sizeBytes };
}

/** qemu-img writes into a file at an offset only when there is a disk already. */
async function putEmptyDisk(host: Host, path: string, offset: number, sizeBytes: number): Promise<void> {
  const empty = `${path}.empty`;
  await qemuImg(host, ["create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", empty, String(sizeBytes)], null);
  const target = await open(path, "r+");
  try {
    let position = offset;
    for await (const chunk of host.files.readStream(empty)) {
      await writeFully(target, chunk as Buffer, position);
      position += (chunk as Buffer).length;
    }
  } finally {
    await target.close();
    await host.files.remove(empty);
  }
}

/** The part of `qemu-img measure --output=json` that is used (QEMU's qapi/block-core.json, BlockMeasureInfo). */
const MeasureResult = z.object({ required: z.number() });

/** What was found of a packed disk that nobody trusts: why it is refused, or how many bytes it takes once it is unpacked. */
export type PackedDiskFacts = { readonly refused: string } | { readonly refused: null; readonly unpackedBytes: number };

/**
 * Looks at a packed disk that nobody trusts: first at its header, then with qemu-img as a user that owns nothing, within limits of memory and time. Writes nothing.
 */
export async function inspectPackedDisk(
  host: Host,
  disk: PackedDisk,
  user: HostUser | null,
  signal: AbortSignal,
): Promise<PackedDiskFacts> {
  const refused = refuseQcow2(await readHeader(disk), disk.sizeBytes);
  if (refused) return { refused };
  // It ends with another code than 0 for leaks as well.
  const checked = await look(host, ["check", "-q", "-f", "qcow2", packedFile(disk)], user, signal);
  if ("failed" in checked) return { refused: `is damaged: ${checked.failed}` };
  const measured = await look(
    host,
    ["measure", "--output=json", "-f", "qcow2", "-O", "qcow2", packedFile(disk)],
    user,
    signal,
  );
  if ("failed" in measured) return { refused: `cannot be measured: ${measured.failed}` };
  return { refused: null, unpackedBytes: MeasureResult.parse(JSON.parse(measured.stdout)).required };
}

async function readHeader({ path, offset, fileBytes }: PackedDisk): Promise<Uint8Array> {
  const file = await open(path, "r");
  try {
    const buffer = Buffer.alloc(Math.min(maxHeaderBytes, fileBytes));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

/** Runs qemu-img on what may be hostile. That it fails is the disk's fault, unless it was stopped. */
async function look(host: Host, args: readonly string[], user: HostUser | null, signal: AbortSignal) {
  const { memoryBytes, cpuSeconds } = lookLimits;
  const limits = [`--as=${memoryBytes}`, `--cpu=${cpuSeconds}`, "--fsize=0", "--core=0"];
  try {
    return await host.run("prlimit", [...limits, "qemu-img", ...args], {
      ...user,
      signal,
      timeoutMs: 2 * cpuSeconds * 1000,
    });
  } catch (error) {
    if (!(error instanceof ProgramError) || error.reason === "aborted" || error.reason === "not-found") throw error;
    return { failed: error.message };
  }
}

/** Where a packed disk goes. */
export interface UnpackRequest {
  readonly path: string;
  /** The disk is grown to this when it is smaller. */
  readonly sizeMib: number;
  /** The most bytes it may take: what `inspectPackedDisk` found. */
  readonly maxBytes: number;
  /** Whose disk it becomes. */
  readonly user: HostUser | null;
}

/**
 * Writes a packed disk out as a disk that stands on its own, or keeps the one that is there. It appears under its name only when it is whole, and is what qemu-img here writes, whatever
 * the packed one was. Rejects with `disk_full`, or `host_program_failed`.
 */
export async function unpackDisk(host: Host, disk: PackedDisk, request: UnpackRequest, work: DiskWork): Promise<void> {
  const { path, sizeMib, maxBytes, user } = request;
  if (await host.files.exists(path)) return;
  const half = `${path}.new`;
  await host.files.remove(half);
  // qemu-img writes whole clusters and its own tables beside what was measured.
  const limit = `--fsize=${maxBytes + Math.ceil(maxBytes / 100) + 16 * bytesPerMib}`;
  const args = ["convert", "-p", "-f", "qcow2", "-O", "qcow2", packedFile(disk), half];
  await convertDisk(host, ["prlimit", limit, "--core=0", "qemu-img", ...args], user, work);
  const wanted = sizeMib * bytesPerMib;
  if (wanted > disk.sizeBytes) await qemuImg(host, ["resize", "-q", "-f", "qcow2", half, String(wanted)], user);
  await host.files.chmod(half, 0o600);
  await placeDisk(host, half, path);
}

/** Names a part of a file as qemu-img takes it; a part without a length goes to the end of the file. */
function packedFile({ path, offset, fileBytes }: { path: string; offset: number; fileBytes?: number }): string {
  const part = { driver: "raw", offset, ...(fileBytes === undefined ? {} : { size: fileBytes }) };
  const file = { driver: "file", filename: path };
  return `json:${JSON.stringify({ driver: "qcow2", file: { ...part, file } })}`;
}

/** Runs a conversion of qemu-img (with `-p`) and tells how far it is. Rejects with `disk_full`, or `host_program_failed` with its words. */
export async function convertDisk(
  host: Host,
  [program = "", ...args]: readonly string[],
  user: HostUser | null,
  { signal, progress }: DiskWork,
): Promise<void> {
  try {
    const running = host.start(program, args, { ...user, signal });
    running.stdout.on("data", (chunk: Buffer) => {
      // `    (12.50/100%)`, each time over the one before.
      const percent = chunk
        .toString("latin1")
        .match(/(?<=\()\d+\.\d+(?=\/100%\))/g)
        ?.at(-1);
      if (percent !== undefined) progress(Number(percent));
    });
    await running.done;
  } catch (error) {
    if (!(error instanceof ProgramError) || error.reason === "aborted") throw error;
    throw new BerthError(error.isDiskFull ? "disk_full" : "host_program_failed", error.message, { cause: error });
  }
}
