import { mkdir, mkdtemp, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { BerthError } from "@berth/api";
import { z } from "zod";
import type { Host } from "../host/host.ts";
import type { BlobCache } from "./blobs.ts";
import type { ResolvedImage } from "./images.ts";
import type { DecompressLimits } from "./layers/decompress.ts";
import { createLayerCache } from "./layers/layer-cache.ts";
import type { MergeLimits } from "./layers/merge.ts";
import { buildFileSystem } from "./rootfs/build-file-system.ts";
import { createSharedWork } from "./shared-work.ts";
import type { Work } from "./work.ts";

/** Raised whenever the same content would give other bytes. */
export const builderVersion = 2;
const mebibyte = 1024 * 1024;

export interface Artifact {
  /** The raw ext4 file; never written to. */
  readonly path: string;
  readonly sizeBytes: number;
  /** Bytes of the files inside. */
  readonly contentBytes: number;
  /** The smallest disk that holds it. */
  readonly minDiskMib: number;
}

const Notes = z.object({ contentBytes: z.number() });

/**
 * Bootable files made from images: `<data>/artifacts/<content digest>-<builder version>.ext4`, each always rebuildable; and `<content digest>-disk.ext4`, which are disks of
 * guests, and all there is of their images.
 */
export interface ArtifactStore {
  /**
   * The artifact, built unless it is here; those who ask for the same one share one build, which ends when the last of them has left. When it fails, `repair` may bring back what it
   * lacked of the image's blobs, and it is built once more; false when it lacked nothing.
   */
  build(image: ResolvedImage, work: Work, repair: (work: Work) => Promise<boolean>): Promise<Artifact>;
  find(contentDigest: string): Promise<Artifact | undefined>;
  /** Resolves when it is already gone. */
  remove(contentDigest: string): Promise<void>;
  /**
   * Where a disk is written that is to become an artifact, in a folder that all may pass through; there is none yet. `key` tells it from others, and names it to the next two.
   */
  prepareDisk(key: string): Promise<string>;
  /** Makes that disk the artifact of a content, unless there is one. It cannot be made again from blobs, so no other builder version takes its place. */
  keepDisk(key: string, contentDigest: string, contentBytes: number): Promise<void>;
  /** Removes that disk; resolves when it is gone already. */
  dropDisk(key: string): Promise<void>;
  /** The content digests there are artifacts of, of whatever builder version. */
  list(): Promise<readonly string[]>;
}

export interface ArtifactOptions {
  readonly host: Host;
  readonly directory: string;
  readonly temporaryDirectory: string;
  /** Unpacked layers, on the same file system. */
  readonly layerDirectory: string;
  /** How many bytes of them are kept for other images. */
  readonly maxLayerCacheBytes: number;
  readonly blobs: BlobCache;
  readonly limits: MergeLimits & DecompressLimits;
}

/**
 * The artifacts of one folder, which is made when the first is. A build rejects with `unsafe_image`, `unsupported_image`, `digest_mismatch`, `disk_full` or `host_program_failed`; nothing
 * half-made has an artifact's name.
 */
export function createArtifactStore(options: ArtifactOptions): ArtifactStore {
  const { host, directory, temporaryDirectory, blobs, limits } = options;
  const shared = createSharedWork<Artifact, Work>();
  const layerCache = createLayerCache(options.layerDirectory, options.maxLayerCacheBytes);
  const hexOf = (digest: string) => digest.slice("sha256:".length);
  const pathOf = (digest: string) => join(directory, `${hexOf(digest)}-${builderVersion}.ext4`);
  const notesOf = (digest: string) => join(directory, `${hexOf(digest)}-${builderVersion}.json`);
  const diskOf = (digest: string) => join(directory, `${hexOf(digest)}-disk.ext4`);
  const diskNotesOf = (digest: string) => join(directory, `${hexOf(digest)}-disk.json`);
  const halfDisk = (key: string) => join(directory, `${key}.half`);

  async function find(contentDigest: string): Promise<Artifact | undefined> {
    const built = await look(pathOf(contentDigest), notesOf(contentDigest));
    return built ?? (await look(diskOf(contentDigest), diskNotesOf(contentDigest)));
  }

  async function look(path: string, notesPath: string): Promise<Artifact | undefined> {
    const found = await stat(path).catch(() => undefined);
    const notes = await host.files.readText(notesPath);
    if (!found || notes === undefined) return undefined;
    const { contentBytes } = Notes.parse(JSON.parse(notes));
    return { path, sizeBytes: found.size, contentBytes, minDiskMib: Math.ceil(found.size / mebibyte) };
  }

  async function build(image: ResolvedImage, work: Work): Promise<Artifact> {
    await mkdir(directory, { recursive: true });
    await mkdir(temporaryDirectory, { recursive: true });
    const folder = await mkdtemp(join(temporaryDirectory, "artifact-"));
    try {
      const imagePath = join(folder, "image.ext4");
      const layers = [];
      for (const [index, layer] of image.layers.entries()) {
        const unpackedPath = join(folder, `${index}.tar`);
        await layerCache.take(layer.diffId, unpackedPath);
        layers.push({ ...layer, path: blobs.path(layer.digest), unpackedPath });
      }
      const seed = image.contentDigest;
      const built = await buildFileSystem(host, { layers, imagePath, seed, limits }, work);
      // The notes first: the artifact is there once its file is.
      await host.files.writeAtomic(notesOf(image.contentDigest), JSON.stringify({ contentBytes: built.contentBytes }));
      await rename(imagePath, pathOf(image.contentDigest));
      for (const { diffId, unpackedPath } of layers) {
        if (await host.files.exists(unpackedPath)) await layerCache.keep(diffId, unpackedPath);
      }
      return {
        path: pathOf(image.contentDigest),
        ...built,
        minDiskMib: Math.ceil(built.sizeBytes / mebibyte),
      };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  return {
    find,
    async build(image, work, repair) {
      const present = await find(image.contentDigest);
      if (present) return present;
      return await shared.run(
        image.contentDigest,
        async (signal, tellAll) => {
          const all: Work = {
            signal,
            log: (line) => tellAll((each) => each.log(line)),
            progress: (percent, detail) => tellAll((each) => each.progress(percent, detail)),
          };
          try {
            return await build(image, all);
          } catch (error) {
            signal.throwIfAborted();
            if (error instanceof BerthError && error.code === "disk_full") throw error;
            if (!(await repair(all))) throw error;
            return await build(image, all);
          }
        },
        work,
        work.signal,
      );
    },
    async prepareDisk(key) {
      // What a guest had on its disk is reached by those who know its digest: guests' hypervisors cannot look for it.
      await host.files.makeDirectory(directory, { mode: 0o711 });
      await rm(halfDisk(key), { force: true });
      return halfDisk(key);
    },
    async keepDisk(key, contentDigest, contentBytes) {
      if (!(await find(contentDigest))) {
        // The notes first: the artifact is there once its file is.
        await host.files.writeAtomic(diskNotesOf(contentDigest), JSON.stringify({ contentBytes }));
        await rename(halfDisk(key), diskOf(contentDigest));
        await host.files.sync(directory);
      }
      await rm(halfDisk(key), { force: true });
    },
    dropDisk: (key) => rm(halfDisk(key), { force: true }),
    async remove(contentDigest) {
      for (const name of await readdir(directory).catch(() => [])) {
        if (name.startsWith(`${hexOf(contentDigest)}-`)) await rm(join(directory, name), { force: true });
      }
    },
    async list() {
      const names = await readdir(directory).catch(() => []);
      return [...new Set(names.flatMap((name) => /^([0-9a-f]{64})-(?:\d+|disk)\.ext4$/.exec(name)?.[1] ?? []))].map(
        (hex) => `sha256:${hex}`,
      );
    },
  };
}
