import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { BerthError } from "@berth/api";
import { isNoSpace } from "../host/host.ts";
import { writeFully } from "../host/write-fully.ts";
import { digestOfFile } from "./digest-of-file.ts";
import { pause } from "./pause.ts";
import { createSharedWork } from "./shared-work.ts";

/** What a manifest says of a blob: its digest is its name, its size a promise. */
export interface BlobDescriptor {
  readonly digest: string;
  readonly size: number;
}

/** Opens a blob's bytes from an offset on; called again with another offset after the stream broke. `start` says where the stream really begins: 0 when the source cannot resume. */
export type OpenBlob = (
  offset: number,
  signal: AbortSignal,
) => Promise<{ readonly start: number; readonly stream: Readable }>;

/** Verified content by digest, shared by all images: `<data>/blobs/sha256/<hex>`. */
export interface BlobCache {
  /** Where the blob is, here or not. Throws BerthError `unsupported_image` for a digest that is not sha256. */
  path(digest: string): string;
  has(descriptor: BlobDescriptor): Promise<boolean>;
  /**
   * Has the blob brought here unless it is; those who ask for one digest at the same time share one download, which ends when the last of them has left.
   * Rejects with BerthError `digest_mismatch` when other bytes arrive, `registry_unreachable` when they break off time and again; whatever `openBlob` rejects with, else.
   */
  fetch(
    descriptor: BlobDescriptor,
    openBlob: OpenBlob,
    work: { readonly signal: AbortSignal; readonly onBytes?: (count: number) => void },
  ): Promise<string>;
  /** Reads blobs anew: removes each that is not what its digest says, and gives those and the ones that are not here at all. */
  dropDamaged(descriptors: readonly BlobDescriptor[], signal: AbortSignal): Promise<readonly BlobDescriptor[]>;
  /** Keeps bytes that are already here, in place of damaged ones. */
  put(descriptor: BlobDescriptor, bytes: Buffer, signal: AbortSignal): Promise<void>;
  /** A small blob's bytes, checked again. Rejects with BerthError `digest_mismatch` when they were damaged here. */
  readSmall(digest: string, maxBytes: number): Promise<Buffer>;
  /**
   * Removes every blob that is not in use, but none being fetched; gives the bytes freed. What is in use is asked for while nobody new is told that a blob is here: who
   * was told before has to be known to `findInUse`, and who asks meanwhile is answered when all is done. Nothing is removed when that is not known.
   */
  collect(findInUse: () => Promise<ReadonlySet<string> | undefined>): Promise<number>;
}

export interface BlobCacheOptions {
  /** How often a broken download is taken up again. */
  readonly attempts?: number;
  /** First pause before taking it up again; doubled each time. */
  readonly pauseMs?: number;
  /** Only for a test's negative control: keeps bytes that do not match. */
  readonly unverified?: boolean;
}

/** Told of bytes as they arrive. */
interface ByteListener {
  onBytes(count: number): void;
}

/** The source ended or failed before all had come; what is written here did not. */
class BrokenSource extends Error {}

async function* chunksOf(stream: Readable): AsyncGenerator<Buffer, void> {
  try {
    yield* stream as AsyncIterable<Buffer>;
  } catch (cause) {
    throw new BrokenSource((cause as Error).message, { cause });
  }
}

/** An error of the source that trying again cannot cure. */
function isFinal(error: unknown): boolean {
  return error instanceof BerthError;
}

/** Opens the cache kept in `blobDirectory`; half-made blobs live in `temporaryDirectory`, on the same file system. */
export function createBlobCache(
  blobDirectory: string,
  temporaryDirectory: string,
  options: BlobCacheOptions = {},
): BlobCache {
  const { attempts = 5, pauseMs = 250 } = options;
  const folder = join(blobDirectory, "sha256");
  const downloads = createSharedWork<string, ByteListener>();
  /** Ends with the collection that goes on, if any. */
  let collected: Promise<unknown> = Promise.resolve();

  function path(digest: string): string {
    const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
    if (hex === undefined) throw new BerthError("unsupported_image", `${digest} is not a sha256 digest.`);
    return join(folder, hex);
  }

  async function has({ digest, size }: BlobDescriptor): Promise<boolean> {
    const found = await stat(path(digest)).catch(() => undefined);
    return found?.size === size;
  }

  async function download(
    descriptor: BlobDescriptor,
    openBlob: OpenBlob,
    signal: AbortSignal,
    onBytes: (count: number) => void,
  ): Promise<string> {
    await mkdir(folder, { recursive: true });
    await mkdir(temporaryDirectory, { recursive: true });
    const half = join(temporaryDirectory, `blob-${randomUUID()}`);
    const file = await open(half, "w", 0o644);
    try {
      let hash = createHash("sha256");
      let received = 0;
      for (let attempt = 1; ; attempt += 1) {
        try {
          const { start, stream } = await openBlob(received, signal);
          if (start !== received) {
            hash = createHash("sha256");
            received = 0;
            await file.truncate(0);
          }
          for await (const chunk of chunksOf(stream)) {
            if (received + chunk.length > descriptor.size) {
              throw longerThanPromised(descriptor);
            }
            await writeFully(file, chunk, received);
            hash.update(chunk);
            received += chunk.length;
            onBytes(chunk.length);
          }
          if (received < descriptor.size) throw new BrokenSource("the connection ended");
          break;
        } catch (error) {
          if (signal.aborted || isFinal(error) || isNoSpace(error)) throw error;
          if (attempt >= attempts) throw error instanceof BrokenSource ? brokenOff(descriptor, received, error) : error;
          await pause(pauseMs * 2 ** (attempt - 1), signal);
        }
      }
      const actual = `sha256:${hash.digest("hex")}`;
      if (actual !== descriptor.digest && !options.unverified) {
        throw new BerthError("digest_mismatch", `${descriptor.digest} was promised, but the bytes have ${actual}.`);
      }
      await file.sync();
      await rename(half, path(descriptor.digest));
      return path(descriptor.digest);
    } catch (error) {
      await rm(half, { force: true });
      throw isNoSpace(error)
        ? new BerthError("disk_full", "No space is left for the image's content.", { cause: error })
        : error;
    } finally {
      await file.close();
    }
  }

  async function fetch(
    descriptor: BlobDescriptor,
    openBlob: OpenBlob,
    { signal, onBytes }: { readonly signal: AbortSignal; readonly onBytes?: (count: number) => void },
  ): Promise<string> {
    await collected;
    signal.throwIfAborted();
    if (await has(descriptor)) {
      onBytes?.(descriptor.size);
      return path(descriptor.digest);
    }
    return await downloads.run(
      descriptor.digest,
      (sharedSignal, tellAll) =>
        download(descriptor, openBlob, sharedSignal, (count) => tellAll((listener) => listener.onBytes(count))),
      { onBytes: onBytes ?? (() => {}) },
      signal,
    );
  }

  async function dropDamaged(
    descriptors: readonly BlobDescriptor[],
    signal: AbortSignal,
  ): Promise<readonly BlobDescriptor[]> {
    await collected;
    const lacking: BlobDescriptor[] = [];
    for (const descriptor of descriptors) {
      const kept = path(descriptor.digest);
      if ((await has(descriptor)) && (await digestOfFile(kept, signal)) === descriptor.digest) continue;
      await rm(kept, { force: true });
      lacking.push(descriptor);
    }
    return lacking;
  }

  async function collect(findInUse: () => Promise<ReadonlySet<string> | undefined>): Promise<number> {
    const inUse = await findInUse();
    let freed = 0;
    for (const hex of inUse ? await readdir(folder).catch(() => []) : []) {
      const digest = `sha256:${hex}`;
      if (inUse?.has(digest) || downloads.isRunning(digest)) continue;
      freed += (await stat(join(folder, hex))).size;
      await rm(join(folder, hex), { force: true });
    }
    return freed;
  }

  return {
    path,
    has,
    fetch,
    dropDamaged,
    async put(descriptor, bytes, signal) {
      await dropDamaged([descriptor], signal);
      await fetch(descriptor, async () => ({ start: 0, stream: Readable.from([bytes]) }), { signal });
    },
    async readSmall(digest, maxBytes) {
      const { size } = await stat(path(digest));
      if (size > maxBytes)
        throw new BerthError("unsupported_image", `${digest} has ${size} bytes; at most ${maxBytes} are read.`);
      const bytes = await readFile(path(digest));
      const actual = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      if (actual !== digest)
        throw new BerthError(
          "digest_mismatch",
          `${digest} was damaged on this node's disk; pull or build its image again.`,
        );
      return bytes;
    },
    async collect(findInUse) {
      const mine = collected.then(() => collect(findInUse));
      collected = mine.catch(() => undefined);
      return await mine;
    },
  };
}

/** Opens a file as a blob's source. */
export function blobFromFile(file: string): OpenBlob {
  return async (offset, signal) => ({ start: offset, stream: createReadStream(file, { start: offset, signal }) });
}

/** Why no more of a blob is taken. */
export function longerThanPromised({ digest, size }: BlobDescriptor): BerthError {
  return new BerthError("digest_mismatch", `${digest} is longer than the ${size} bytes its manifest promises.`);
}

function brokenOff({ digest, size }: BlobDescriptor, received: number, error: BrokenSource): BerthError {
  const detail = `${digest} broke off after ${received} of ${size} bytes, again and again: ${error.message}.`;
  return new BerthError("registry_unreachable", detail, { cause: error });
}
