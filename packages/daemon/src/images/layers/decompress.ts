import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { open, rm } from "node:fs/promises";
import { Transform, type TransformCallback, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { BerthError } from "@berth/api";
import { isNoSpace } from "../../host/host.ts";
import { digestOfFile } from "../digest-of-file.ts";

export type Compression = "gzip" | "zstd" | "none";

export interface DecompressLimits {
  /** Bytes one layer may have when unpacked. */
  readonly maxLayerBytes: number;
  /** How many times larger than its compressed form a layer may be, once it is larger than `ratioFromBytes`. */
  readonly maxRatio: number;
  readonly ratioFromBytes: number;
}

/** How a blob is compressed, by its first bytes: media types are often wrong. */
async function detectCompression(path: string): Promise<Compression> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4), 0, 4, 0);
    if (bytesRead >= 2 && buffer.readUInt16BE(0) === 0x1f8b) return "gzip";
    if (bytesRead === 4 && buffer.readUInt32BE(0) === 0x28b52ffd) return "zstd";
    return "none";
  } finally {
    await file.close();
  }
}

/** A layer's blob, and its digest unpacked. */
interface LayerBlob {
  readonly path: string;
  readonly size: number;
  readonly digest: string;
  readonly diffId: string;
}

/**
 * Gives the path of a layer's plain archive as `decompressLayer` does; one that is at `unpackedPath` already is taken when it has the right digest, else replaced.
 */
export async function unpackLayer(
  layer: LayerBlob & { readonly unpackedPath: string },
  limits: DecompressLimits,
  onBytes: (count: number) => void,
): Promise<string> {
  if ((await digestOfFile(layer.unpackedPath)) === layer.diffId) return layer.unpackedPath;
  await rm(layer.unpackedPath, { force: true });
  return await decompressLayer(layer, layer.unpackedPath, limits, onBytes);
}

/**
 * Gives the path of a layer's plain archive, checked against the digest its image's configuration promises (`diff_id`): the blob itself when
 * that is plain, else `target`, written now. Rejects with BerthError `digest_mismatch`, `unsafe_image` or `disk_full`.
 */
async function decompressLayer(
  blob: LayerBlob,
  target: string,
  limits: DecompressLimits,
  onBytes: (count: number) => void,
): Promise<string> {
  const compression = await detectCompression(blob.path);
  const hash = createHash("sha256");
  let size = 0;
  const counter = new Transform({
    transform(chunk: Buffer, _encoding: BufferEncoding, callback: TransformCallback) {
      size += chunk.length;
      hash.update(chunk);
      onBytes(chunk.length);
      const bomb = size > limits.ratioFromBytes && size > blob.size * limits.maxRatio;
      if (bomb || size > limits.maxLayerBytes) {
        const why = bomb
          ? `more than ${limits.maxRatio} times its compressed size`
          : `more than ${limits.maxLayerBytes} bytes`;
        callback(new BerthError("unsafe_image", `Layer ${blob.digest} unpacks to ${why}.`));
      } else callback(null, chunk);
    },
  });
  const source = createReadStream(blob.path, { highWaterMark: 256 * 1024 });
  try {
    if (compression === "none") {
      const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
      await pipeline(source, counter, nowhere);
    } else {
      const chunkSize = 256 * 1024;
      const unpack = compression === "gzip" ? createGunzip({ chunkSize }) : createZstdDecompress({ chunkSize });
      await pipeline(source, unpack, counter, createWriteStream(target, { highWaterMark: 1024 * 1024 }));
    }
  } catch (error) {
    if (error instanceof BerthError) throw error;
    if (isNoSpace(error)) throw new BerthError("disk_full", "No space is left to unpack the image.", { cause: error });
    const code = error instanceof Error && "code" in error ? String(error.code) : "";
    if (!/^(Z_|ZSTD|ERR_)/.test(code)) throw error;
    throw new BerthError("unsafe_image", `Layer ${blob.digest} is damaged: ${compression} cannot unpack it.`, {
      cause: error,
    });
  }
  const actual = `sha256:${hash.digest("hex")}`;
  if (actual !== blob.diffId) {
    throw new BerthError(
      "digest_mismatch",
      `Layer ${blob.digest} unpacks to ${actual}, but its image promises ${blob.diffId}.`,
    );
  }
  return compression === "none" ? blob.path : target;
}
