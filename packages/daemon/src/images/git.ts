import { mkdir, mkdtemp, realpath, rm, stat } from "node:fs/promises";
import { join, sep } from "node:path";
import { BerthError } from "@berth/api";
import { type Host, ProgramError, type RunOptions, type RunResult } from "../host/host.ts";
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

/** What one commit may take on the node's disk. */
export interface GitLimits {
  /** Bytes that the repository may send, and bytes of all files. */
  readonly maxGitBytes: number;
  /** Files and links. */
  readonly maxEntries: number;
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
 * Rejects with BerthError `invalid_request` (a URL or ref that can be none), `address_refused`, `git_not_found`, `git_fetch_failed`, `unsafe_image` for more than the limits, or `disk_full`.
 */
export async function checkoutGit(
  {
    host,
    outbound,
    temporaryDirectory,
    limits,
    allowFiles = false,
  }: GitOptions & { host: Host; outbound: Outbound; temporaryDirectory: string; limits: GitLimits },
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
  const options = settings.flatMap((setting) => ["-c", setting]);
  // No file may grow beyond that (setrlimit(2)), and what is fetched becomes one, its pack. Git is told so by an error, since a signal would end it without a word.
  const bounded = ["--ignore-signal=XFSZ", "prlimit", `--fsize=${limits.maxGitBytes}`, "git", ...options, "-C", folder];
  const git: Git = async (args, more = {}) =>
    await host.run("env", [...bounded, ...args], {
      env: gitEnvironment(folder),
      signal: work.signal,
      timeoutMs,
      ...more,
    });
  const tooLarge = (what: string) => new BerthError("unsafe_image", `${withoutSecrets(url)} ${what}.`);
  try {
    await git(["init", "--quiet", "--template="]);
    work.log(`Fetching ${request.ref} of ${withoutSecrets(url)}.`);
    await git(["fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", url.href, request.ref]);
    const commit = (await git(["rev-parse", "--verify", "FETCH_HEAD^{commit}"])).stdout.trim();
    const excess = await findExcess(git, commit, limits, work.signal);
    if (excess) throw tooLarge(`has ${excess} at ${request.ref}`);
    await git(["checkout", "--quiet", "--detach", commit, "--"]);
    await rm(join(folder, ".git"), { recursive: true, force: true });
    return { directory: await inside(folder, request.subdirectory), commit, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await dispose();
    if (!(error instanceof ProgramError) || error.reason === "aborted") throw error;
    if (error.isDiskFull) throw new BerthError("disk_full", error.message, { cause: error });
    if (/File too large/.test(error.stderr))
      throw tooLarge(`sends more than ${limits.maxGitBytes} bytes for ${request.ref}`);
    const words = error.stderr.trim().split("\n").at(-1)?.replaceAll(url.href, withoutSecrets(url)) ?? "";
    if (/couldn't find remote ref|not our ref|no such ref/i.test(error.stderr)) {
      throw new BerthError("git_not_found", `${withoutSecrets(url)} has no branch, tag or commit ${request.ref}.`, {
        cause: error,
      });
    }
    throw new BerthError("git_fetch_failed", `${withoutSecrets(url)}: ${words || error.message}`, { cause: error });
  }
}

type Git = (args: readonly string[], more?: Pick<RunOptions, "onLine" | "signal">) => Promise<RunResult>;

/** What a commit has more of than may be, by its trees alone: a few of them, each holding another many times, can name more files than there is room for. */
async function findExcess(git: Git, commit: string, limits: GitLimits, signal: AbortSignal) {
  const enough = new AbortController();
  let entries = 0;
  let bytes = 0;
  const excess = () => {
    if (entries > limits.maxEntries) return `more than ${limits.maxEntries} files`;
    return bytes > limits.maxGitBytes ? `files of more than ${limits.maxGitBytes} bytes` : undefined;
  };
  const onLine = (line: string, stream: "stdout" | "stderr") => {
    // Mode, type, id and size, which is "-" for a submodule; then the name.
    const size = stream === "stdout" ? /^\d+ \S+ \S+ +(\d+|-)\t/.exec(line)?.[1] : undefined;
    if (size === undefined) return;
    entries += 1;
    bytes += Number(size) || 0;
    if (excess()) enough.abort();
  };
  try {
    await git(["ls-tree", "-r", "-l", "--full-tree", commit], {
      onLine,
      signal: AbortSignal.any([signal, enough.signal]),
    });
  } catch (error) {
    if (signal.aborted || !enough.signal.aborted) throw error;
  }
  return excess();
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
    "fetch.unpackLimit=1",
  ];
  if (url.protocol === "file:" && allowFiles) return [...always, "protocol.file.allow=always", "safe.directory=*"];
  const port = Number(url.port || (url.protocol === "https:" ? 443 : 80));
  const plain = url.protocol === "http:" && outbound.allowsPlainHttp(url.hostname, port);
  if (url.protocol !== "https:" && !plain)
    throw new BerthError("invalid_request", "A Git URL must begin with https://.");
  const { addresses } = await outbound.pin(url.hostname, port).catch((error: unknown) => {
    if (error instanceof BerthError) throw error;
    throw new BerthError("git_fetch_failed", `${url.hostname} has no address.`, { cause: error });
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
    throw new BerthError("git_not_found", `The repository has no folder ${JSON.stringify(subdirectory)}.`);
  }
  return path;
}
