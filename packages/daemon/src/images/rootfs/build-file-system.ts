import { createHash } from "node:crypto";
import { truncate } from "node:fs/promises";
import { getCompileCacheDir } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { BerthError } from "@berth/api";
import { type Host, ProgramError } from "../../host/host.ts";
import type { DecompressLimits } from "../layers/decompress.ts";
import type { MergeLimits } from "../layers/merge.ts";
import type { Work } from "../work.ts";
import type { BuildInput, BuildMessage } from "./fill-file-system.ts";
import { blockSize } from "./layout.ts";

export interface FileSystemRequest {
  readonly layers: BuildInput["layers"];
  /** Where the raw image is made; it must not be there yet. */
  readonly imagePath: string;
  /** What UUID and hash seed are derived from, so that the same content gives the same bytes. */
  readonly seed: string;
  readonly limits: MergeLimits & DecompressLimits;
}

export interface BuiltFileSystem {
  readonly sizeBytes: number;
  /** Bytes of all files, each counted once. */
  readonly contentBytes: number;
}

/** How far the file system can be grown while mounted: 1 TiB, for which resize_inode keeps 64 blocks by each backup. */
const growthBlocks = 2 ** 40 / blockSize;
/** What ext4 of any kernel since 4.x mounts. No checksums of metadata: what is written here is read back before anyone else writes. */
const features =
  "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize";
const journalMib = 16;
const maxHeapMib = 2048;
const fillFileSystem = join(import.meta.dirname, "fill-file-system.ts");

/**
 * Makes a raw ext4 file from layers, lowest first. mke2fs makes the empty file system, a process of its own unpacks, merges and fills it:
 * no file of the image ever stands on the host, and root and an ordinary user get the same bytes.
 * Rejects with BerthError `unsafe_image`, `unsupported_image`, `digest_mismatch`, `disk_full` or `host_program_failed`.
 */
export async function buildFileSystem(host: Host, request: FileSystemRequest, work: Work): Promise<BuiltFileSystem> {
  const { layers, imagePath, limits } = request;
  const input: BuildInput = { layers, imagePath, limits };
  const stop = new AbortController();
  const signal = AbortSignal.any([work.signal, stop.signal]);
  signal.throwIfAborted();
  const filling = host.start(process.execPath, [`--max-old-space-size=${maxHeapMib}`, fillFileSystem], {
    env: { NODE_COMPILE_CACHE: getCompileCacheDir() ?? "" },
    signal,
  });
  const tell = (line: string) => void filling.stdin.write(`${line}\n`);
  let planned: Extract<BuildMessage, { type: "planned" }> | undefined;
  let isDone = false;
  try {
    tell(JSON.stringify(input));
    for await (const line of createInterface({ input: filling.stdout })) {
      const message = JSON.parse(line) as BuildMessage;
      switch (message.type) {
        case "log":
          work.log(message.line);
          break;
        case "progress":
          work.progress(
            percentOf(message, planned?.contentBytes),
            message.phase === "unpack" ? "unpacking" : "writing",
          );
          break;
        case "planned":
          planned = message;
          await makeEmpty(host, request, message, signal);
          tell("go");
          break;
        case "done":
          isDone = true;
          break;
        case "failed":
          throw new BerthError(message.code, message.detail);
      }
    }
    await filling.done;
  } catch (error) {
    work.signal.throwIfAborted();
    if (error instanceof ProgramError && error.stderr.includes("JavaScript heap out of memory"))
      throw new BerthError("unsafe_image", "The image's file tree is too large to be read.", { cause: error });
    throw error;
  } finally {
    stop.abort();
    await filling.done.catch(() => {});
  }
  if (!planned || !isDone) throw new Error("the program that fills the file system ended early");
  return { sizeBytes: planned.sizeBytes, contentBytes: planned.contentBytes };
}

/** Writing is measurable, unpacking is not: how large a layer becomes is seen only at its end. */
function percentOf(message: Extract<BuildMessage, { type: "progress" }>, contentBytes = 0): number | null {
  if (message.phase === "unpack" || contentBytes === 0) return null;
  return Math.min(100, Math.round((message.bytes / contentBytes) * 100));
}

async function makeEmpty(
  host: Host,
  { imagePath, seed }: FileSystemRequest,
  { sizeBytes, inodeCount }: { sizeBytes: number; inodeCount: number },
  signal: AbortSignal,
): Promise<void> {
  const uuid = uuidFrom(seed);
  const extended = `resize=${growthBlocks},hash_seed=${uuid},root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0`;
  try {
    await host.files.writeAtomic(imagePath, "", { mode: 0o644 });
    await truncate(imagePath, sizeBytes);
    await host.run(
      "mke2fs",
      [
        ...["-q", "-F", "-t", "ext4", "-O", features, "-b", String(blockSize), "-I", "256", "-N", String(inodeCount)],
        ...["-m", "0", "-J", `size=${journalMib}`, "-E", extended, "-U", uuid, imagePath],
      ],
      // Without the host's own mke2fs.conf, which differs between distributions.
      { env: { MKE2FS_CONFIG: "/dev/null", MKE2FS_SKIP_CHECK_MSG: "1" }, signal },
    );
  } catch (error) {
    if (error instanceof ProgramError && error.reason !== "aborted") {
      throw new BerthError(error.isDiskFull ? "disk_full" : "host_program_failed", error.message, { cause: error });
    }
    throw error;
  }
}

function uuidFrom(seed: string): string {
  const hex = createHash("sha256").update(seed).digest("hex");
  // Version 8, variant 10 (RFC 9562): a UUID of the maker's own kind.
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}
