import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** A registry in this process that can misbehave in ways a real one does not on demand. */
export interface FakeRegistry extends AsyncDisposable {
  /** `127.0.0.1:port`. */
  readonly host: string;
  /** Every request's method and URL, with its Range. */
  readonly requests: string[];
  /** Stores an image of these layers under a tag; gives the manifest's digest. */
  addImage(repository: string, tag: string, layers: readonly Buffer[], options?: AddOptions): string;
  /** Comes before every answer; true when it answered itself. */
  intercept: (request: IncomingMessage, response: ServerResponse) => boolean;
  readonly blobs: Map<string, Buffer>;
  readonly manifests: Map<string, Buffer>;
}

export interface AddOptions {
  readonly architecture?: string;
  readonly diffIds?: readonly string[];
  readonly config?: Readonly<Record<string, unknown>>;
}

export const digestOf = (bytes: Buffer | string) => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

export async function startFakeRegistry(): Promise<FakeRegistry> {
  const blobs = new Map<string, Buffer>();
  const manifests = new Map<string, Buffer>();
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}${request.headers.range ? ` ${request.headers.range}` : ""}`);
    if (registry.intercept(request, response)) return;
    const [, repository = "", kind, name = ""] =
      /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(request.url ?? "") ?? [];
    const found = kind === "manifests" ? manifests.get(`${repository}/${name}`) : blobs.get(name);
    if (!found) {
      response.writeHead(404, { "content-type": "application/json" });
      response.end(JSON.stringify({ errors: [{ code: "MANIFEST_UNKNOWN", message: "manifest unknown" }] }));
      return;
    }
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    response.writeHead(start > 0 ? 206 : 200, { "content-length": found.length - start });
    response.end(found.subarray(start));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;

  const registry: FakeRegistry = {
    host: `127.0.0.1:${port}`,
    requests,
    blobs,
    manifests,
    intercept: () => false,
    addImage(repository, tag, layers, options = {}) {
      const config = Buffer.from(
        JSON.stringify({
          os: "linux",
          architecture: options.architecture ?? (process.arch === "arm64" ? "arm64" : "amd64"),
          config: options.config ?? {},
          rootfs: { type: "layers", diff_ids: options.diffIds ?? layers.map(digestOf) },
        }),
      );
      const describe = (mediaType: string, bytes: Buffer) => {
        blobs.set(digestOf(bytes), bytes);
        return { mediaType, digest: digestOf(bytes), size: bytes.length };
      };
      const manifest = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: "application/vnd.oci.image.manifest.v1+json",
          config: describe("application/vnd.oci.image.config.v1+json", config),
          layers: layers.map((layer) => describe("application/vnd.oci.image.layer.v1.tar", layer)),
        }),
      );
      manifests.set(`${repository}/${tag}`, manifest);
      manifests.set(`${repository}/${digestOf(manifest)}`, manifest);
      return digestOf(manifest);
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
  return registry;
}
