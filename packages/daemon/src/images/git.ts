import { mkdir, mkdtemp, realpath, rm, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { BerthError } from "@berth/api";
import { type Host, ProgramError } from "../host/host.ts";
import type { Outbound } from "./outbound.ts";
import type { Work } from "./work.ts";

export interface GitRequest {
  /** `https://…`; what it may be else is the administrator's choice. */
  readonly url: string;
  /** Branch, tag or commit; `HEAD` for the default branch. */
  readonly ref: string;
  /** Folder inside the repository; empty for its root. */
  readonly subdirectory: string;
}

/** A repository's files at one commit, until disposed of. */
export interface GitCheckout extends AsyncDisposable {
  readonly directory: string;
  /** The commit's full id. */
  readonly commit: string;
}

export interface GitOptions {
  /** Only for tests: `file://` URLs, which would otherwise let a caller read repositories on the node. */
  readonly allowFiles?: boolean;
}

const timeoutMs = 15 * 60_000;
/** What git check-ref-format(1) allows, without what could be read as an option or a revision expression. */
const refPattern = /^(?!-)(?!.*(?:\.\.|@\{|\/\/|\.lock$|[./]$))[A-Za-z0-9._/+@#=-]{1,255}$/;

/**
 * Refuses a URL that holds a user name, a password or a query: it is kept with the image and its operation, shown to whoever may read those, and stands among git's
 * arguments while that runs. Throws BerthError `invalid_request`, without the URL.
 */
export function refuseSecrets(text: string): void {
  const url = URL.parse(text);
  if (!url || (url.username === "" && url.password === "" && url.search === "")) return;
  throw new BerthError(
    "invalid_request",
    `${withoutSecrets(url)} was given with a user name, password or query, which would be kept with the image for all to read. Leave it out.`,
  );
}

/**
 * Fetches one commit, without history, submodules, hooks, or anything of the host's git configuration.
 * Rejects with BerthError `invalid_request` (URL, ref or subdirectory), `address_refused`, or `registry_unreachable`.
 */
export async function checkoutGit(
  {
    host,
    outbound,
    temporaryDirectory,
    allowFiles = false,
  }: GitOptions & { host: Host; outbound: Outbound; temporaryDirectory: string },
  request: GitRequest,
  work: Work,
): Promise<GitCheckout> {
  const url = parseUrl(request.url);
  if (!refPattern.test(request.ref))
    throw new BerthError("invalid_request", `${JSON.stringify(request.ref)} is not a branch, tag or commit.`);
  const settings = await settingsFor(url, outbound, allowFiles);
  await mkdir(temporaryDirectory, { recursive: true });
  const folder = await mkdtemp(join(temporaryDirectory, "git-"));
  const dispose = async () => await rm(folder, { recursive: true, force: true });
  const git = async (args: readonly string[]) => {
    const options = settings.flatMap((setting) => ["-c", setting]);
    return await host.run("git", [...options, "-C", folder, ...args], {
      env: gitEnvironment(folder),
      signal: work.signal,
      timeoutMs,
    });
  };
  try {
    await git(["init", "--quiet", "--template="]);
    work.log(`Fetching ${request.ref} of ${withoutSecrets(url)}.`);
    await git(["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url.href, request.ref]);
    const commit = (await git(["rev-parse", "--verify", "FETCH_HEAD^{commit}"])).stdout.trim();
    await git(["checkout", "--quiet", "--detach", commit, "--"]);
    await rm(join(folder, ".git"), { recursive: true, force: true });
    return { directory: await inside(folder, request.subdirectory), commit, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    if (!(error instanceof ProgramError) || error.reason === "aborted") throw error;
    const words = error.stderr.trim().split("\n").at(-1)?.replaceAll(url.href, withoutSecrets(url)) ?? "";
    if (/couldn't find remote ref|not our ref|no such ref/i.test(error.stderr)) {
      throw new BerthError("invalid_request", `${withoutSecrets(url)} has no branch, tag or commit ${request.ref}.`, {
        cause: error,
      });
    }
    throw new BerthError("registry_unreachable", `${withoutSecrets(url)}: ${words || error.message}`, { cause: error });
  }
}

function parseUrl(text: string): URL {
  // git's own `ext::command` and `host:path` forms are not URLs, and so are refused.
  if (!/^[a-z]+:\/\//i.test(text) || !URL.canParse(text)) {
    throw new BerthError(
      "invalid_request",
      `${JSON.stringify(text)} is not a URL such as https://example.com/app.git.`,
    );
  }
  refuseSecrets(text);
  return new URL(text);
}

function withoutSecrets(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** The connection is made to the addresses that were judged: curl is told them, and follows no redirect. */
async function settingsFor(url: URL, outbound: Outbound, allowFiles: boolean): Promise<string[]> {
  const always = [
    "protocol.allow=never",
    "core.hooksPath=/dev/null",
    "http.followRedirects=false",
    "credential.helper=",
    "core.fsmonitor=false",
  ];
  if (url.protocol === "file:" && allowFiles) return [...always, "protocol.file.allow=always", "safe.directory=*"];
  const port = Number(url.port || (url.protocol === "https:" ? 443 : 80));
  const plain = url.protocol === "http:" && outbound.allowsPlainHttp(url.hostname, port);
  if (url.protocol !== "https:" && !plain)
    throw new BerthError("invalid_request", "A Git URL must begin with https://.");
  const { addresses } = await outbound.pin(url.hostname, port).catch((error: unknown) => {
    if (error instanceof BerthError) throw error;
    throw new BerthError("registry_unreachable", `${url.hostname} has no address.`, { cause: error });
  });
  const list = addresses.map(({ address, family }) => (family === 6 ? `[${address}]` : address)).join(",");
  return [
    ...always,
    `protocol.${url.protocol.slice(0, -1)}.allow=always`,
    `http.curloptResolve=${url.hostname}:${port}:${list}`,
  ];
}

function gitEnvironment(folder: string): Record<string, string> {
  return {
    HOME: folder,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_TERMINAL_PROMPT: "0",
    GIT_LFS_SKIP_SMUDGE: "1",
  };
}

/** A folder of the repository; one that leads out of it, by `..` or by a link, is refused. */
async function inside(folder: string, subdirectory: string): Promise<string> {
  const root = await realpath(folder);
  const path = await realpath(join(root, subdirectory)).catch(() => undefined);
  const isInside = path !== undefined && (path === root || path.startsWith(root + sep));
  if (!isInside || !(await stat(path)).isDirectory()) {
    throw new BerthError("invalid_request", `The repository has no folder ${JSON.stringify(subdirectory)}.`);
  }
  return path;
}
