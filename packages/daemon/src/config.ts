import { join } from "node:path";
import { parseEnv } from "node:util";
import { parseAllowRule } from "./images/outbound.ts";
import type { Credentials } from "./images/registry.ts";
import { parseRegistryAuth } from "./images/registry-auth.ts";

/** Everything berthd is told from outside, read once at start. docs/settings.md describes each. */
export interface Config {
  readonly dataDir: string;
  readonly listen: { readonly host: string; readonly port: number };
  /** The address that people use, such as that of a reverse proxy; undefined for the one it listens on. */
  readonly publicUrl: URL | undefined;
  readonly store:
    | { readonly kind: "sqlite"; readonly path: string }
    | { readonly kind: "postgres"; readonly url: string };
  /** Where the guest kit's builds are. */
  readonly kitRoot: string;
  /** Hosts (with or without a port) that images and Git repositories may come from although their addresses are private. */
  readonly allowHosts: readonly string[];
  /** Who to be at a registry, by its name as references have it; undefined for nobody. */
  readonly registryCredentials: (registry: string) => Credentials | undefined;
  /** Which driver serves the node's location: `qemu`, or `fake` for tests. */
  readonly driver: "qemu" | "fake";
  /** Whether berthd makes templates by itself, or only where one is asked for. */
  readonly templates: "auto" | "asked";
  /** How many requests a second each token and user may send; 0 for no limit. */
  readonly requestsPerSecond: number;
  readonly logLevel: string;
  /** The fault point where a test lets berthd die or stumble: see operations/fault.ts. */
  readonly fault: string | undefined;
  /** How long a started guest may take until it is ready, in milliseconds. */
  readonly readyTimeoutMs: number;
}

const defaultPort = 8642;

/** A setting that cannot be understood; its message names it and says what it takes. */
export class ConfigError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "ConfigError";
  }
}

/** Where data lives. Throws a ConfigError when that cannot be told. */
export function readDataDir(env: NodeJS.ProcessEnv, uid: number): string {
  // Empty is not set, as the client takes it too.
  const dataDir = env.BERTH_DATA_DIR || defaultDataDir(env, uid);
  if (!dataDir.startsWith("/")) throw new ConfigError(`BERTH_DATA_DIR must be an absolute path, not "${dataDir}".`);
  return dataDir;
}

/** When BERTH_DATA_DIR does not say: root's in /var/lib/berth, anyone else's in their home. */
function defaultDataDir(env: NodeJS.ProcessEnv, uid: number): string {
  if (uid === 0) return "/var/lib/berth";
  const base = env.XDG_DATA_HOME || (env.HOME ? join(env.HOME, ".local/share") : undefined);
  if (!base)
    throw new ConfigError("HOME is not set, so there is no place for data. Set BERTH_DATA_DIR to an absolute path.");
  return join(base, "berth");
}

/** What may stand in the settings file. */
const inFile = new Set([
  "BERTH_LISTEN",
  "BERTH_PUBLIC_URL",
  "BERTH_STORE",
  "BERTH_KIT_DIR",
  "BERTH_ALLOW_HOSTS",
  "BERTH_REGISTRY_AUTH",
  "BERTH_DRIVER",
  "BERTH_TEMPLATES",
  "BERTH_RATE_LIMIT",
  "BERTH_LOG_LEVEL",
  "BERTH_READY_TIMEOUT",
]);

/** A file's text and permission bits; undefined when it is not there. */
export type ReadSettingsFile = (path: string) => { readonly text: string; readonly mode: number } | undefined;

/**
 * Reads the settings: from the environment, then from `berthd.env` in the data folder, lines of NAME=value. Throws a ConfigError for one that
 * makes no sense.
 */
export function readConfig(
  surroundings: NodeJS.ProcessEnv,
  uid: number,
  repositoryRoot: string,
  readFile: ReadSettingsFile,
): Config {
  const dataDir = readDataDir(surroundings, uid);
  const env: NodeJS.ProcessEnv = { ...readSettings(join(dataDir, "berthd.env"), readFile), ...surroundings };
  const store = env.BERTH_STORE;
  return {
    dataDir,
    listen: readListen(env.BERTH_LISTEN),
    publicUrl: readPublicUrl(env.BERTH_PUBLIC_URL),
    store:
      store === undefined
        ? { kind: "sqlite", path: join(dataDir, "berth.db") }
        : { kind: "postgres", url: readStoreUrl(store) },
    kitRoot: env.BERTH_KIT_DIR ?? join(repositoryRoot, ".tools/kit"),
    allowHosts: readAllowHosts(env.BERTH_ALLOW_HOSTS ?? ""),
    registryCredentials: readRegistryAuth(env.BERTH_REGISTRY_AUTH, readFile),
    driver: readChoice("BERTH_DRIVER", env.BERTH_DRIVER ?? "qemu", ["qemu", "fake"] as const),
    templates: readChoice("BERTH_TEMPLATES", env.BERTH_TEMPLATES ?? "auto", ["auto", "asked"] as const),
    requestsPerSecond: readRate(env.BERTH_RATE_LIMIT ?? "200"),
    logLevel: readChoice("BERTH_LOG_LEVEL", env.BERTH_LOG_LEVEL ?? "info", [
      "trace",
      "debug",
      "info",
      "warn",
      "error",
      "fatal",
      "silent",
    ] as const),
    fault: env.BERTH_FAULT,
    readyTimeoutMs: readSeconds("BERTH_READY_TIMEOUT", env.BERTH_READY_TIMEOUT ?? "300") * 1000,
  };
}

function readSettings(path: string, readFile: ReadSettingsFile): NodeJS.ProcessEnv {
  const file = readFile(path);
  if (!file) return {};
  const settings = parseEnv(file.text);
  const unknown = Object.keys(settings).find((name) => !inFile.has(name));
  if (unknown) throw new ConfigError(`${path} sets ${unknown}; it may set ${[...inFile].join(", ")}.`);
  if (settings.BERTH_STORE !== undefined && (file.mode & 0o077) !== 0)
    throw new ConfigError(`${path} may hold the store's password and others can read it. Run: chmod 600 ${path}`);
  return settings;
}

/** `host:port`, `:port`, `[::1]:port` or a bare port; port 0 asks for any free one. */
function readListen(text: string | undefined): Config["listen"] {
  if (text === undefined) return { host: "127.0.0.1", port: defaultPort };
  const match = /^(?:(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):)?(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (!match || port > 65535)
    throw new ConfigError(`BERTH_LISTEN must look like 127.0.0.1:${defaultPort}, not "${text}".`);
  return { host: match[1] ?? (match[2] || "127.0.0.1"), port };
}

function readPublicUrl(text: string | undefined): URL | undefined {
  if (!text) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search !== "" || url.username !== "")
    throw new ConfigError(`BERTH_PUBLIC_URL must look like https://berth.example, not "${text}".`);
  return url;
}

function readStoreUrl(url: string): string {
  if (!/^postgres(ql)?:\/\//.test(url))
    throw new ConfigError("BERTH_STORE must be a postgres:// URL; leave it out for the embedded store.");
  return url;
}

function readAllowHosts(text: string): readonly string[] {
  const hosts = text.split(/[\s,]+/).filter(Boolean);
  try {
    hosts.forEach(parseAllowRule);
  } catch (error) {
    throw new ConfigError((error as Error).message);
  }
  return hosts;
}

function readRegistryAuth(path: string | undefined, readFile: ReadSettingsFile): Config["registryCredentials"] {
  if (!path) return () => undefined;
  if (!path.startsWith("/")) throw new ConfigError(`BERTH_REGISTRY_AUTH must be an absolute path, not "${path}".`);
  const file = readFile(path);
  if (!file) throw new ConfigError(`BERTH_REGISTRY_AUTH names ${path}, which is not there.`);
  if ((file.mode & 0o077) !== 0)
    throw new ConfigError(`${path} holds passwords of registries and others can read it. Run: chmod 600 ${path}`);
  try {
    return parseRegistryAuth(file.text);
  } catch (error) {
    throw new ConfigError(`${path} (BERTH_REGISTRY_AUTH): ${(error as Error).message}.`);
  }
}

function readChoice<const T extends readonly string[]>(name: string, value: string, choices: T): T[number] {
  if (!choices.includes(value)) throw new ConfigError(`${name} must be one of ${choices.join(", ")}, not "${value}".`);
  return value;
}

function readRate(value: string): number {
  if (!/^\d{1,6}$/.test(value))
    throw new ConfigError(`BERTH_RATE_LIMIT must be a whole number of requests a second, or 0, not "${value}".`);
  return Number(value);
}

function readSeconds(name: string, value: string): number {
  const seconds = Number(value);
  if (!Number.isFinite(seconds) || seconds <= 0)
    throw new ConfigError(`${name} must be a number of seconds above zero, not "${value}".`);
  return seconds;
}
