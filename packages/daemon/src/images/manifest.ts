import { BerthError } from "@berth/api";
import { z } from "zod";

/** OCI image-spec (manifest.md, image-index.md, config.md) and Docker's schema 2, as far as a pull reads them. */
export const mediaTypes = {
  index: ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"],
  manifest: ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"],
  config: ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"],
} as const;

const Digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, "must be a sha256 digest");
const Descriptor = z.object({
  mediaType: z.string(),
  digest: Digest,
  size: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
});
export type Descriptor = z.infer<typeof Descriptor>;

const Platform = z.object({ os: z.string(), architecture: z.string(), variant: z.string().optional() });
const Index = z.object({ manifests: z.array(Descriptor.extend({ platform: Platform.optional() })).max(1000) });
const Manifest = z.object({ config: Descriptor, layers: z.array(Descriptor).max(1000) });
export type Manifest = z.infer<typeof Manifest>;

const texts = z.array(z.string()).nullish();
const Config = z.object({
  os: z.string().default("linux"),
  architecture: z.string().default(""),
  config: z
    .object({
      Entrypoint: texts,
      Cmd: texts,
      Env: texts,
      User: z.string().nullish(),
      WorkingDir: z.string().nullish(),
      ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
      StopSignal: z.string().nullish(),
      Volumes: z.record(z.string(), z.unknown()).nullish(),
      Labels: z.record(z.string(), z.string()).nullish(),
    })
    .nullish(),
  rootfs: z.object({ type: z.literal("layers"), diff_ids: z.array(Digest) }),
});
/** An image's configuration, as OCI's config.md has it. */
export type ImageConfig = z.infer<typeof Config>;

function parseJson<T>(schema: z.ZodType<T>, bytes: Uint8Array, what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new BerthError("unsupported_image", `${what} is not JSON.`, { cause: error });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new BerthError("unsupported_image", `${what} is not valid: ${issue?.path.join(".")}: ${issue?.message}.`);
}

/** Reads a manifest. Throws BerthError `unsupported_image` for what cannot become a root file system. */
export function parseManifest(bytes: Uint8Array): Manifest {
  const manifest = parseJson(Manifest, bytes, "The manifest");
  if (!(mediaTypes.config as readonly string[]).includes(manifest.config.mediaType)) {
    throw new BerthError("unsupported_image", `It holds ${manifest.config.mediaType}, not a container image.`);
  }
  const foreign = manifest.layers.find(({ mediaType }) => /foreign|nondistributable/.test(mediaType));
  if (foreign)
    throw new BerthError("unsupported_image", `Its layer ${foreign.digest} may not be distributed by a registry.`);
  return manifest;
}

/** Reads an image's configuration. Throws BerthError `unsupported_image`. */
export function parseConfig(bytes: Uint8Array): ImageConfig {
  return parseJson(Config, bytes, "The image's configuration");
}

/** The platform's own manifest in an index: linux, this architecture, its plainest variant. Throws BerthError `unsupported_image`, saying what there is. */
export function choosePlatform(bytes: Uint8Array, architecture: string): Descriptor {
  const { manifests } = parseJson(Index, bytes, "The image index");
  const matching = manifests.filter(
    ({ platform }) => platform?.os === "linux" && platform.architecture === architecture,
  );
  // arm64's only baseline variant is v8; amd64's v2 to v4 ask for more of the processor than may be there.
  const plain = matching.find(({ platform }) => ["", "v1", "v8"].includes(platform?.variant ?? ""));
  if (plain) return { mediaType: plain.mediaType, digest: plain.digest, size: plain.size };
  const there = manifests
    .flatMap(({ platform }) => (platform && platform.os !== "unknown" ? [platform] : []))
    .map(({ os, architecture, variant }) => [os, architecture, variant].filter(Boolean).join("/"));
  throw new BerthError(
    "unsupported_image",
    `It has no linux/${architecture} variant, only ${there.length > 0 ? there.join(", ") : "manifests without a platform"}.`,
  );
}
