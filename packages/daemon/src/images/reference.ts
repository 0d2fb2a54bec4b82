import { BerthError } from "@berth/api";

/** An image's name in a registry, fully known: nothing is left to defaults. */
export interface ImageReference {
  /** As written in references: `docker.io`, `ghcr.io`, `localhost:5000`, `[::1]:5000`. */
  readonly registry: string;
  /** `library/nginx`. */
  readonly repository: string;
  readonly tag: string | null;
  /** `sha256:…`; wins over the tag. */
  readonly digest: string | null;
}

// The grammar of the distribution project's reference package, which docker, podman and containerd share.
const domainLabel = "(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])";
const registryPattern = new RegExp(
  `^(?:${domainLabel}(?:\\.${domainLabel})*|\\[[a-fA-F0-9:]{2,39}\\])(?::[0-9]{1,5})?$`,
);
const repositoryPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const tagPattern = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const digestPattern = /^sha256:[0-9a-f]{64}$/;
const dockerHub = "docker.io";
const maxNameLength = 255;

/**
 * Reads a reference as docker pull does: `nginx` is `docker.io/library/nginx:latest`.
 * Throws BerthError `invalid_reference`.
 */
export function parseReference(text: string): ImageReference {
  const refuse = (why: string): never => {
    throw new BerthError("invalid_reference", `${JSON.stringify(text)} is not an image reference: ${why}.`);
  };
  const [beforeDigest = "", digest = null, ...more] = text.split("@");
  if (more.length > 0) refuse("it has more than one @");
  if (digest !== null && !digestPattern.test(digest)) refuse("the digest must be sha256: and 64 hex digits");

  // A colon after the last slash begins the tag; one before it belongs to a port.
  const colon = beforeDigest.indexOf(":", beforeDigest.lastIndexOf("/") + 1);
  const name = colon === -1 ? beforeDigest : beforeDigest.slice(0, colon);
  const tag = colon === -1 ? null : beforeDigest.slice(colon + 1);
  if (tag !== null && !tagPattern.test(tag)) refuse("the tag may hold letters, digits, _, . and -, at most 128");

  const { registry, path } = splitRegistry(name);
  if (!registryPattern.test(registry) || !hasValidPort(registry)) refuse("the registry is not a host name");
  const repository = registry === dockerHub && path !== "" && !path.includes("/") ? `library/${path}` : path;
  if (path !== path.toLowerCase()) refuse("the repository must be lower-case");
  if (!repositoryPattern.test(repository)) refuse("the repository has characters or separators that are not allowed");
  if (/^[0-9a-f]{64}$/.test(name)) refuse("64 hex digits are an image id, not a name");
  if (registry.length + 1 + repository.length > maxNameLength) refuse("the name is longer than 255 characters");
  return { registry, repository, tag: tag ?? (digest === null ? "latest" : null), digest };
}

/** The canonical text: `docker.io/library/nginx:1.27`. Parsing it gives the same reference again. */
export function formatReference({ registry, repository, tag, digest }: ImageReference): string {
  return `${registry}/${repository}${tag === null ? "" : `:${tag}`}${digest === null ? "" : `@${digest}`}`;
}

/** A reference written in full: `nginx` is `docker.io/library/nginx:latest`. Throws as `parseReference`. */
export function canonicalReference(reference: string): string {
  return formatReference(parseReference(reference));
}

/** The first component is a registry only when it cannot be a Docker Hub user: it has a dot, a port or a capital, or is localhost. */
function splitRegistry(name: string): { registry: string; path: string } {
  const slash = name.indexOf("/");
  const first = slash === -1 ? "" : name.slice(0, slash);
  if (!/[.:A-Z]/.test(first) && first !== "localhost") return { registry: dockerHub, path: name };
  return { registry: first === "index.docker.io" ? dockerHub : first, path: name.slice(slash + 1) };
}

function hasValidPort(registry: string): boolean {
  const port = /:([0-9]+)$/.exec(registry)?.[1];
  return port === undefined || registry.endsWith("]") || (Number(port) > 0 && Number(port) < 65536);
}
