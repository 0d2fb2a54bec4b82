import { createHash } from "node:crypto";
import { createReadStream, linkSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";

/** A layer of an image: the blob as it is stored, and the digest of its tar archive (image-spec, config.md: diff_ids). */
export interface Layer {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly diffId: string;
}

/** The `config` of an image as the OCI image-spec writes it. */
export interface OciConfig {
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Env?: readonly string[];
  readonly User?: string;
  readonly WorkingDir?: string;
  readonly ExposedPorts?: Readonly<Record<string, object>>;
  readonly StopSignal?: string;
}

const architectures: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" };

/** A folder in the OCI image layout (image-spec, image-layout.md), for skopeo to carry elsewhere; images in it share their layers. */
export function createOciLayout(folder: string) {
  const blobs = join(folder, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  writeFileSync(join(folder, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  const manifests: object[] = [];

  const addBytes = (mediaType: string, bytes: Buffer) => {
    const digest = digestOf(bytes);
    writeFileSync(join(blobs, digest.slice("sha256:".length)), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const addJson = (mediaType: string, value: object) => addBytes(mediaType, Buffer.from(JSON.stringify(value)));

  return {
    /** Adds a tar archive as a layer. */
    addTar(tar: Buffer): Layer {
      return { ...addBytes("application/vnd.oci.image.layer.v1.tar", tar), diffId: digestOf(tar) };
    },
    /** Adds a tar archive that is already compressed with zstd; both files stay. */
    async addZstdFile(compressed: string, tar: string): Promise<Layer> {
      const [stored, archive] = await Promise.all([digestOfFile(compressed), digestOfFile(tar)]);
      linkSync(compressed, join(blobs, stored.digest.slice("sha256:".length)));
      return { mediaType: "application/vnd.oci.image.layer.v1.tar+zstd", ...stored, diffId: archive.digest };
    },
    /** Adds an image and gives it a tag. */
    addImage(tag: string, layers: readonly Layer[], config: OciConfig): void {
      const description = addJson("application/vnd.oci.image.config.v1+json", {
        architecture: architectures[process.arch],
        os: "linux",
        config,
        rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
      });
      const manifest = addJson("application/vnd.oci.image.manifest.v1+json", {
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: description,
        layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
      });
      manifests.push({ ...manifest, annotations: { "org.opencontainers.image.ref.name": tag } });
      writeFileSync(join(folder, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
    },
  };
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
}

async function digestOfFile(path: string): Promise<{ digest: string; size: number }> {
  const hash = createHash("sha256");
  let size = 0;
  await pipeline(createReadStream(path), async (chunks: AsyncIterable<Buffer>) => {
    for await (const chunk of chunks) {
      size += chunk.length;
      hash.update(chunk);
    }
  });
  return { digest: `sha256:${hash.digest("hex")}`, size };
}
