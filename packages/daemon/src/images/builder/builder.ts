import type { OpenBlob } from "../blobs.ts";
import type { Work } from "../work.ts";

/** A build from a folder on the node. */
export interface BuildRequest {
  /** The context: an absolute path. */
  readonly directory: string;
  /** Relative to the context. */
  readonly dockerfile: string;
  readonly buildArgs: Readonly<Record<string, string>>;
}

/** A finished build: a folder in the form of `dir:` (containers-transports(5)): manifest.json, and each blob named by its hex digits. */
export interface BuiltImage extends AsyncDisposable {
  readonly directory: string;
}

/** An image that a Dockerfile builds upon, in the same form. */
export interface BaseImage {
  readonly manifestPath: string;
  readonly blobs: readonly { readonly digest: string; readonly path: string }[];
  /** Digest of its manifest. */
  readonly digest: string;
}

/** Turns a Dockerfile into an image. Where it runs (the host, a build VM) is the implementation's affair. */
export interface Builder {
  /**
   * Rejects with BerthError `build_failed`, naming the line; `invalid_request` for a context or Dockerfile that is not there;
   * `host_program_failed` when the host lacks something, saying what to do.
   */
  build(request: BuildRequest, fetchBase: FetchBase, work: Work): Promise<BuiltImage>;
}

/** Brings an image that a Dockerfile names into the blob cache, under the same guard and checks as any pull. */
export type FetchBase = (reference: string, work: Work) => Promise<BaseImage>;

/** A layout's parts, to be verified like a registry's. */
export interface Layout {
  readonly manifest: { readonly bytes: Buffer; readonly digest: string };
  blob(digest: string): OpenBlob;
}
