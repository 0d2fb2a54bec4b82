import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { BerthError } from "@berth/api";
import { z } from "zod";
import { type BlobDescriptor, longerThanPromised, type OpenBlob } from "./blobs.ts";
import { choosePlatform, mediaTypes } from "./manifest.ts";
import type { Outbound, OutboundResponse } from "./outbound.ts";
import { pause } from "./pause.ts";
import { formatReference, type ImageReference } from "./reference.ts";

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

export interface RegistryOptions {
  readonly outbound: Outbound;
  /** Architecture as OCI names it: `amd64`. */
  readonly architecture: string;
  readonly credentials?: (registry: string) => Credentials | undefined;
  /** How often a request that met a passing fault is made; 4 when not given. */
  readonly attempts?: number;
  /** First pause between them; doubled each time. */
  readonly pauseMs?: number;
  /** Only for a test's negative control: believes manifests whose digest does not match. */
  readonly unverified?: boolean;
}

/** The platform's manifest, verified: its bytes have this digest. */
export interface FetchedManifest {
  readonly bytes: Buffer;
  readonly digest: string;
}

/** A client of registries that speak OCI's distribution-spec; pulls only. */
export interface Registry {
  /** The manifest a reference names, through an index to this platform's. Rejects with the BerthErrors of a pull. */
  manifest(reference: ImageReference, signal: AbortSignal): Promise<FetchedManifest>;
  /** Opens a blob of the reference's repository. Rejects with BerthError `digest_mismatch` when more is announced than its manifest promises. */
  blob(reference: ImageReference, descriptor: BlobDescriptor): OpenBlob;
}

/** distribution-spec: clients should accept manifests of at least 4 MiB. */
const maxManifestBytes = 4 * 1024 * 1024;
const maxErrorBytes = 64 * 1024;
const accept = [...mediaTypes.index, ...mediaTypes.manifest].join(", ");
const TokenAnswer = z.object({ token: z.string().optional(), access_token: z.string().optional() });

/**
 * A client that remembers, for as long as it lives, what each registry last let it in with. Broken connections, 5xx and 429 are tried again, `attempts` times in all; each call ends with its
 * signal and has no other time limit than `outbound`'s.
 */
export function createRegistry(options: RegistryOptions): Registry {
  const { outbound, attempts = 4, pauseMs = 250 } = options;
  /** The Authorization header that last worked, by registry and repository. */
  const authorizations = new Map<string, string>();
  const origins = new Map<string, string>();

  /** https, or plain http where the policy allows it and https is not spoken. */
  async function originOf(registry: string, signal: AbortSignal): Promise<string> {
    const known = origins.get(registry);
    if (known) return known;
    const secure = new URL(`https://${registry === "docker.io" ? "registry-1.docker.io" : registry}`);
    let origin = secure.origin;
    if (outbound.allowsPlainHttp(secure.hostname, Number(secure.port || 443))) {
      try {
        (await outbound.request(new URL("/v2/", secure), { signal })).body.destroy();
      } catch (error) {
        if (!speaksPlainHttp(error)) throw error;
        origin = `http://${secure.host}`;
      }
    }
    origins.set(registry, origin);
    return origin;
  }

  async function authorize(challenge: string, reference: ImageReference, signal: AbortSignal): Promise<string> {
    const credentials = options.credentials?.(reference.registry);
    const basic =
      credentials &&
      `Basic ${Buffer.from(`${credentials.username}:${credentials.password}`, "utf8").toString("base64")}`;
    const { scheme, parameters } = parseChallenge(challenge);
    if (scheme === "basic" && basic) return basic;
    const realm = parameters.get("realm");
    if (scheme !== "bearer" || realm === undefined || !URL.canParse(realm)) {
      throw notThere(reference, "it asks for credentials");
    }
    const url = new URL(realm);
    const service = parameters.get("service");
    if (service !== undefined) url.searchParams.set("service", service);
    url.searchParams.set("scope", parameters.get("scope") ?? `repository:${reference.repository}:pull`);
    const answer = await outbound.request(url, { signal, ...(basic ? { headers: { authorization: basic } } : {}) });
    const body = await readAtMost(answer.body, maxErrorBytes);
    if (answer.status === 401 || answer.status === 403) throw notThere(reference, "it refuses access");
    if (answer.status !== 200) throw answeredWith(answer, body, reference);
    const parsed = TokenAnswer.safeParse(parseOrNull(body));
    const token = parsed.data?.token ?? parsed.data?.access_token;
    if (!token) throw new BerthError("registry_error", `${url.host} gave no token.`);
    return `Bearer ${token}`;
  }

  /** One GET, authorized when the registry asks for it. Answers 200 or 206; anything else becomes a BerthError. */
  async function get(
    reference: ImageReference,
    path: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<OutboundResponse> {
    const key = `${reference.registry}/${reference.repository}`;
    const ask = async () => {
      const url = new URL(`/v2/${reference.repository}/${path}`, await originOf(reference.registry, signal));
      const authorization = authorizations.get(key);
      return await outbound.request(url, {
        signal,
        headers: { ...headers, ...(authorization ? { authorization } : {}) },
      });
    };
    let answer = await ask();
    const challenge = answer.headers["www-authenticate"];
    if (answer.status === 401 && challenge !== undefined) {
      answer.body.destroy();
      authorizations.set(key, await authorize(challenge, reference, signal));
      answer = await ask();
    }
    if (answer.status === 200 || answer.status === 206) return answer;
    const body = await readAtMost(answer.body, maxErrorBytes);
    if (answer.status === 404) throw notThere(reference, wordsOf(body) || "not found");
    if (answer.status === 401 || answer.status === 403) {
      authorizations.delete(key);
      throw notThere(reference, "it refuses access");
    }
    throw answeredWith(answer, body, reference);
  }

  /** Tries again what may pass by itself: broken connections, 5xx and 429. */
  async function patiently<T>(reference: ImageReference, signal: AbortSignal, action: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await action();
      } catch (error) {
        signal.throwIfAborted();
        const passing = !(error instanceof BerthError) || error instanceof PassingRegistryError;
        if (!passing || isUnknownHost(error) || attempt >= attempts) throw unreachable(error, reference);
        await pause(pauseMs * 2 ** (attempt - 1), signal);
      }
    }
  }

  async function fetchManifest(reference: ImageReference, name: string, signal: AbortSignal): Promise<FetchedManifest> {
    return await patiently(reference, signal, async () => {
      const answer = await get(reference, `manifests/${name}`, { accept }, signal);
      const bytes = await readAtMost(answer.body, maxManifestBytes + 1);
      if (bytes.length > maxManifestBytes) {
        throw new BerthError("unsupported_image", `Its manifest is larger than ${maxManifestBytes} bytes.`);
      }
      const digest = `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
      if (name.startsWith("sha256:") && digest !== name && !options.unverified) {
        throw new BerthError("digest_mismatch", `${name} was asked for, but ${reference.registry} served ${digest}.`);
      }
      return { bytes, digest };
    });
  }

  return {
    async manifest(reference, signal) {
      const top = await fetchManifest(reference, reference.digest ?? reference.tag ?? "latest", signal);
      const kind = kindOf(top.bytes);
      if (kind === "manifest") return top;
      if (kind === "other")
        throw new BerthError("unsupported_image", "It is neither an OCI image nor a Docker schema 2 image.");
      const chosen = choosePlatform(top.bytes, options.architecture);
      const manifest = await fetchManifest(reference, chosen.digest, signal);
      if (kindOf(manifest.bytes) !== "manifest") {
        throw new BerthError("unsupported_image", "Its index leads to another index.");
      }
      return manifest;
    },
    blob(reference, descriptor) {
      return async (offset, signal) =>
        await patiently(reference, signal, async () => {
          const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
          const answer = await get(reference, `blobs/${descriptor.digest}`, headers, signal);
          const start = answer.status === 206 ? offset : 0;
          const end = start + Number(answer.headers["content-length"] ?? 0);
          if (end > descriptor.size) {
            answer.body.destroy();
            throw longerThanPromised(descriptor);
          }
          return { start, stream: answer.body };
        });
    },
  };
}

/** A registry's answer that may be another next time. */
class PassingRegistryError extends BerthError {}

/** Whether a manifest is an index or one platform's, by what it holds: the bytes are verified, a Content-Type is not. */
function kindOf(bytes: Buffer): "index" | "manifest" | "other" {
  const value = parseOrNull(bytes);
  if (value === null || typeof value !== "object") return "other";
  // One that could be read both ways is refused: two readers would see two images.
  const index = "manifests" in value;
  const manifest = "config" in value && "layers" in value;
  if (index === manifest) return "other";
  return index ? "index" : "manifest";
}

function parseOrNull(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return null;
  }
}

/** `Bearer realm="https://auth…",service="…"` (RFC 9110 section 11). */
export function parseChallenge(header: string): { scheme: string; parameters: ReadonlyMap<string, string> } {
  const [, scheme = "", rest = ""] = /^\s*([A-Za-z]+)\s*(.*)$/s.exec(header) ?? [];
  const parameters = new Map<string, string>();
  for (const [, name = "", quoted, plain] of rest.matchAll(/([A-Za-z_]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))/g)) {
    parameters.set(name.toLowerCase(), quoted?.replaceAll(/\\(.)/g, "$1") ?? plain ?? "");
  }
  return { scheme: scheme.toLowerCase(), parameters };
}

async function readAtMost(stream: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= maxBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes);
}

/** The first message of a registry's error body (distribution-spec: `{errors: [{code, message}]}`), on one line. */
function wordsOf(body: Buffer): string {
  const parsed = z
    .object({ errors: z.array(z.object({ code: z.string().optional(), message: z.string().optional() })).min(1) })
    .safeParse(parseOrNull(body));
  const first = parsed.data?.errors[0];
  const text = first ? (first.message ?? first.code ?? "") : "";
  return text.replaceAll(/[^\x20-\x7e]+/g, " ").slice(0, 300);
}

function notThere(reference: ImageReference, why: string, cause?: Error): BerthError {
  const name = formatReference(reference).slice(reference.registry.length + 1);
  return new BerthError("image_not_found", `${reference.registry} does not give ${name}: ${why}.`, { cause });
}

function answeredWith(answer: OutboundResponse, body: Buffer, reference: ImageReference): BerthError {
  const words = wordsOf(body);
  const detail = `${answer.url.host} answered ${answer.status} for ${reference.repository}${words ? `: ${words}` : ""}.`;
  const passing = answer.status >= 500 || answer.status === 429 || answer.status === 408;
  return passing ? new PassingRegistryError("registry_error", detail) : new BerthError("registry_error", detail);
}

function unreachable(error: unknown, reference: ImageReference): BerthError {
  // Where nobody lists localhost as a registry, it is the place of what is built here.
  if (error instanceof BerthError && error.code === "address_refused" && reference.registry === "localhost")
    return notThere(reference, "only images that were built on this node have such names", error);
  if (error instanceof BerthError) return error;
  const words = error instanceof Error ? error.message : String(error);
  return new BerthError("registry_unreachable", `${reference.registry}: ${words || "no answer"}.`, { cause: error });
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function isUnknownHost(error: unknown): boolean {
  return codeOf(error) === "ENOTFOUND";
}

/** What a TLS handshake with a plain-http server ends with. */
function speaksPlainHttp(error: unknown): boolean {
  const code = codeOf(error);
  return code === "EPROTO" || code === "ECONNRESET" || (typeof code === "string" && code.startsWith("ERR_SSL"));
}
