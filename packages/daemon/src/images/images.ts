import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { BerthError, type StartConfig } from "@berth/api";
import type { Host } from "../host/host.ts";
import { type Artifact, type ArtifactStore, builderVersion, createArtifactStore } from "./artifact.ts";
import { type BlobCache, type BlobDescriptor, createBlobCache } from "./blobs.ts";
import { createBuildahBuilder, removeBuild } from "./builder/buildah.ts";
import type { BuildRequest, FetchBase } from "./builder/builder.ts";
import { readDirectoryLayout } from "./builder/directory-layout.ts";
import { checkoutGit, type GitCheckout, type GitOptions, type GitRequest } from "./git.ts";
import { parseConfig, parseManifest } from "./manifest.ts";
import { createOutbound, type OutboundPolicy } from "./outbound.ts";
import { type ImageReference, parseReference } from "./reference.ts";
import { type Credentials, createRegistry, type RegistryOptions } from "./registry.ts";
import { toStartConfig } from "./start-config.ts";
import type { Work } from "./work.ts";

/** An image known down to its digests: plain data, fit for a journal. All else follows from it. */
export interface ResolvedImage {
  /** Digest of the platform's manifest. */
  readonly contentDigest: string;
  readonly manifest: { readonly digest: string; readonly size: number };
  readonly config: { readonly digest: string; readonly size: number };
  /** Lowest first. */
  readonly layers: readonly { readonly digest: string; readonly size: number; readonly diffId: string }[];
  readonly os: string;
  /** As OCI names it: `amd64`. */
  readonly architecture: string;
  readonly startConfig: StartConfig;
}

export interface ImageLimits {
  /** Entries of all layers together. */
  readonly maxEntries: number;
  /** Bytes of all layers together, and of all files in them. */
  readonly maxBytes: number;
  /** Bytes of one layer, packed as its manifest promises and unpacked. */
  readonly maxLayerBytes: number;
  /** How many times larger than compressed a layer may be, once it is larger than `ratioFromBytes`. */
  readonly maxRatio: number;
  readonly ratioFromBytes: number;
  /** Bytes that a Git repository may send for one commit, and bytes of all files of that commit. */
  readonly maxGitBytes: number;
}

const defaultImageLimits: ImageLimits = {
  maxEntries: 2_000_000,
  maxBytes: 64 * 2 ** 30,
  maxLayerBytes: 64 * 2 ** 30,
  maxRatio: 200,
  ratioFromBytes: 256 * 2 ** 20,
  maxGitBytes: 8 * 2 ** 30,
};

export interface ImagesOptions {
  readonly host: Host;
  /** The data folder; `blobs/`, `layers/`, `artifacts/` and `tmp/` in it are used. */
  readonly dataDirectory: string;
  readonly outbound: OutboundPolicy;
  readonly credentials?: (registry: string) => Credentials | undefined;
  readonly limits?: Partial<ImageLimits>;
  /** How many bytes of unpacked layers are kept for images that share them; 8 GiB when not given. */
  readonly maxLayerCacheBytes?: number;
  readonly registry?: Pick<RegistryOptions, "attempts" | "pauseMs">;
  readonly git?: GitOptions;
}

/** The digest of the content that a reference, as written, names on this node; undefined when it names none. */
export type FindHere = (reference: string) => Promise<string | undefined>;

/**
 * From any OCI source to verified content and a bootable disk. Every call is safe to repeat, after a kill -9 too: what is there is not
 * made again, and half-made things live only in `<data>/tmp`.
 */
export interface Images {
  /** Asks the registry what a reference is now; the manifest and configuration are then in the blob cache. */
  resolve(reference: string, work: Work): Promise<ResolvedImage>;
  /** An image known by its content alone, from the blob cache; undefined when its manifest or configuration is not there. */
  describe(contentDigest: string): Promise<ResolvedImage | undefined>;
  /** Has every layer brought to the blob cache. `reference` says which repository to ask; not needed for what was built here. */
  fetchBlobs(image: ResolvedImage, reference: string, work: Work): Promise<void>;
  /**
   * Builds a Dockerfile; its layers are then in the blob cache. What it builds upon is taken from the blob cache when `findHere` gives the content of that reference and all of it is
   * there, else from its registry.
   */
  build(request: BuildRequest, findHere: FindHere, work: Work): Promise<ResolvedImage>;
  /** Checks out a Git repository for a build; dispose of it afterwards. */
  checkout(request: GitRequest, work: Work): Promise<GitCheckout>;
  /**
   * Makes the bootable disk. Layers that were damaged on this node's disk are fetched again where `reference` says; without one, as of what was built here, rejects with BerthError
   * `image_not_found`.
   */
  buildArtifact(image: ResolvedImage, work: Work, reference?: string): Promise<Artifact>;
  /** Which way artifacts are made: another version may give the same content other bytes. */
  readonly artifactVersion: number;
  findArtifact(contentDigest: string): Promise<Artifact | undefined>;
  removeArtifact(contentDigest: string): Promise<void>;
  listArtifacts(): Promise<readonly string[]>;
  /** As in the artifact store: a guest's disk becomes an artifact. */
  readonly prepareDisk: ArtifactStore["prepareDisk"];
  readonly keepDisk: ArtifactStore["keepDisk"];
  readonly dropDisk: ArtifactStore["dropDisk"];
  /** Removes what a killed berthd left half-made in `tmp/`; for its start, before any work. */
  removeLeftovers(): Promise<void>;
  /** Removes the blobs of none of these images; gives the bytes freed. They are asked for as the blob cache does: see its `collect`. */
  collectBlobs(findInUse: () => Promise<readonly ResolvedImage[] | undefined>): Promise<number>;
}

const maxConfigBytes = 8 * 1024 * 1024;
const maxManifestBytes = 4 * 1024 * 1024;
/** Blobs downloaded at the same time, as docker does. */
const concurrency = 3;

/**
 * The images of one data folder; nothing is touched before the first call. There is one per folder: `removeLeftovers` takes away what another was just making. Rejects when the host
 * cannot be asked for its architecture; what its calls reject with is in the catalogue of errors.
 */
export async function createImages(options: ImagesOptions): Promise<Images> {
  const { host, dataDirectory } = options;
  const { architecture } = await host.facts();
  const limits = { ...defaultImageLimits, ...options.limits };
  const temporaryDirectory = join(dataDirectory, "tmp");
  const outbound = createOutbound(options.outbound);
  const blobs = createBlobCache(join(dataDirectory, "blobs"), temporaryDirectory);
  const { credentials } = options;
  const registry = createRegistry({
    outbound,
    architecture,
    ...options.registry,
    ...(credentials ? { credentials } : {}),
  });
  const artifacts = createArtifactStore({
    host,
    directory: join(dataDirectory, "artifacts"),
    temporaryDirectory,
    layerDirectory: join(dataDirectory, "layers"),
    maxLayerCacheBytes: options.maxLayerCacheBytes ?? 8 * 2 ** 30,
    blobs,
    limits,
  });
  const builder = createBuildahBuilder({ host, temporaryDirectory });

  /** An image whose every blob is in the blob cache. */
  async function findComplete(contentDigest: string, signal: AbortSignal): Promise<ResolvedImage | undefined> {
    const image = await describeContent(contentDigest);
    const lacking = await blobs.dropDamaged(image?.layers ?? [], signal);
    return lacking.length === 0 ? image : undefined;
  }

  const fetchBaseBeside =
    (findHere: FindHere): FetchBase =>
    async (text, work) => {
      const digest = await findHere(text);
      let image = digest === undefined ? undefined : await findComplete(digest, work.signal);
      if (!image) {
        image = await resolve(text, work);
        await fetchBlobs(image, text, work);
      }
      const parts = [image.config, ...image.layers].map(({ digest }) => ({ digest, path: blobs.path(digest) }));
      return { digest: image.contentDigest, manifestPath: blobs.path(image.contentDigest), blobs: parts };
    };

  async function describeContent(contentDigest: string): Promise<ResolvedImage | undefined> {
    const size = await host.files.size(blobs.path(contentDigest));
    if (size === undefined) return undefined;
    const manifest = { digest: contentDigest, size };
    const { config } = parseManifest(await blobs.readSmall(contentDigest, maxManifestBytes));
    return (await blobs.has(config)) ? await describe(blobs, manifest, architecture) : undefined;
  }

  async function resolve(text: string, work: Work): Promise<ResolvedImage> {
    const reference = parseReference(text);
    const { bytes, digest } = await registry.manifest(reference, work.signal);
    const manifest = { digest, size: bytes.length };
    await blobs.put(manifest, bytes, work.signal);
    const { config, layers } = parseManifest(bytes);
    refuseLarge(config, layers, limits);
    await blobs.dropDamaged([config], work.signal);
    await blobs.fetch(config, registry.blob(reference, config), work);
    return await describe(blobs, manifest, architecture);
  }

  async function fetchBlobs(image: ResolvedImage, text: string, work: Work): Promise<void> {
    const reference: ImageReference = parseReference(text);
    const total = image.layers.reduce((sum, layer) => sum + layer.size, 0);
    let done = 0;
    const onBytes = (count: number) => {
      done += count;
      work.progress(total === 0 ? 100 : Math.min(100, Math.round((done / total) * 100)), "downloading");
    };
    const stop = new AbortController();
    const signal = AbortSignal.any([work.signal, stop.signal]);
    const queue = image.layers.values();
    const fetching = Array.from({ length: concurrency }, async () => {
      for (const layer of queue) await blobs.fetch(layer, registry.blob(reference, layer), { signal, onBytes });
    });
    try {
      await Promise.all(fetching);
    } finally {
      // One that failed ends the others; whoever hears of it finds nothing of them left.
      stop.abort();
      await Promise.allSettled(fetching);
    }
  }

  /** Brings back the layers that are no longer here as they came; false when all are. */
  async function refetchDamaged(image: ResolvedImage, work: Work, reference: string | undefined): Promise<boolean> {
    const lacking = await blobs.dropDamaged(image.layers, work.signal);
    if (lacking.length === 0) return false;
    const what = `This node's disk has lost or damaged ${lacking.map(({ digest }) => digest).join(", ")}`;
    if (reference === undefined) throw new BerthError("image_not_found", `${what}; build the image again.`);
    work.log(`${what}; fetching again.`);
    await fetchBlobs(image, reference, work);
    return true;
  }

  return {
    resolve,
    describe: describeContent,
    fetchBlobs,
    async build(request, findHere, work) {
      await using built = await builder.build(request, fetchBaseBeside(findHere), work);
      const layout = await readDirectoryLayout(built.directory);
      const { bytes, digest } = layout.manifest;
      const { config, layers } = parseManifest(bytes);
      refuseLarge(config, layers, limits);
      await blobs.dropDamaged([config, ...layers], work.signal);
      for (const blob of [config, ...layers]) await blobs.fetch(blob, layout.blob(blob.digest), work);
      const manifest = { digest, size: bytes.length };
      await blobs.put(manifest, bytes, work.signal);
      return await describe(blobs, manifest, architecture);
    },
    checkout: async (request, work) =>
      await checkoutGit({ host, outbound, temporaryDirectory, limits, ...options.git }, request, work),
    buildArtifact: (image, work, reference) =>
      artifacts.build(image, work, (shared) => refetchDamaged(image, shared, reference)),
    artifactVersion: builderVersion,
    findArtifact: (contentDigest) => artifacts.find(contentDigest),
    removeArtifact: (contentDigest) => artifacts.remove(contentDigest),
    listArtifacts: () => artifacts.list(),
    prepareDisk: (key) => artifacts.prepareDisk(key),
    keepDisk: (key, contentDigest, contentBytes) => artifacts.keepDisk(key, contentDigest, contentBytes),
    dropDisk: (key) => artifacts.dropDisk(key),
    async removeLeftovers() {
      for (const name of await readdir(temporaryDirectory).catch(() => [])) {
        const path = join(temporaryDirectory, name);
        if (name.startsWith("build-")) await removeBuild(host, path);
        else if (/^(?:artifact|blob|git)-/.test(name)) await rm(path, { recursive: true, force: true });
      }
    },
    async collectBlobs(findInUse) {
      const blobsOf = ({ manifest, config, layers }: ResolvedImage) => [manifest, config, ...layers];
      return await blobs.collect(async () => {
        const images = await findInUse();
        return images && new Set(images.flatMap(blobsOf).map(({ digest }) => digest));
      });
    },
  };
}

/** Before any of it is fetched, by what the manifest promises: nothing longer than that is taken afterwards. */
function refuseLarge(config: BlobDescriptor, layers: readonly BlobDescriptor[], limits: ImageLimits): void {
  if (config.size > maxConfigBytes) {
    throw new BerthError("unsupported_image", `Its configuration is larger than ${maxConfigBytes} bytes.`);
  }
  const large = layers.find(({ size }) => size > limits.maxLayerBytes);
  if (large) {
    const detail = `Layer ${large.digest} has ${large.size} bytes by its manifest; at most ${limits.maxLayerBytes} are fetched.`;
    throw new BerthError("unsafe_image", detail);
  }
  const total = layers.reduce((sum, { size }) => sum + size, 0);
  if (total > limits.maxBytes) {
    const detail = `Its layers have ${total} bytes by its manifest; at most ${limits.maxBytes} are fetched.`;
    throw new BerthError("unsafe_image", detail);
  }
}

/** Reads an image from its verified manifest and configuration. */
async function describe(blobs: BlobCache, manifest: BlobDescriptor, architecture: string): Promise<ResolvedImage> {
  const { config, layers } = parseManifest(await blobs.readSmall(manifest.digest, maxManifestBytes));
  const read = parseConfig(await blobs.readSmall(config.digest, maxConfigBytes));
  if (read.os !== "linux" || (read.architecture !== "" && read.architecture !== architecture)) {
    throw new BerthError(
      "unsupported_image",
      `It is made for ${read.os}/${read.architecture}, this node is linux/${architecture}.`,
    );
  }
  const diffIds = read.rootfs.diff_ids;
  if (diffIds.length !== layers.length) {
    throw new BerthError(
      "unsupported_image",
      `It has ${layers.length} layers but names ${diffIds.length} in its configuration.`,
    );
  }
  return {
    contentDigest: manifest.digest,
    manifest,
    config: { digest: config.digest, size: config.size },
    layers: layers.map(({ digest, size }, index) => ({ digest, size, diffId: diffIds[index] ?? "" })),
    os: "linux",
    architecture,
    startConfig: toStartConfig(read),
  };
}
