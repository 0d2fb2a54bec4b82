import { mkdir, mkdtemp, readFile, realpath, rm, stat, writeFile } from "node:fs/promises";
import { join, sep } from "node:path";
import { BerthError } from "@berth/api";
import { type Host, ProgramError } from "../../host/host.ts";
import type { Work } from "../work.ts";
import type { Builder, BuildRequest, BuiltImage, FetchBase } from "./builder.ts";
import { writeDirectoryLayout } from "./directory-layout.ts";
import { type ParsedDockerfile, parseDockerfile, replaceImages } from "./dockerfile.ts";
import { openUserNamespace, type UserNamespace } from "./user-namespace.ts";

export interface BuildahOptions {
  readonly host: Host;
  readonly temporaryDirectory: string;
  /** Longest build; an hour when not given. */
  readonly timeoutMs?: number;
}

const hourMs = 60 * 60_000;
const baseName = (digest: string) => `localhost/berth-base:${digest.slice("sha256:".length)}`;

/**
 * buildah on this host, without privilege: in a user namespace, whether berthd is root or not, and with storage of its own that goes when the
 * build is over. It never pulls: base images are put into its storage from the blob cache. RUN shares the host's network: only for who is trusted so.
 */
export function createBuildahBuilder(options: BuildahOptions): Builder {
  const { host, temporaryDirectory, timeoutMs = hourMs } = options;

  async function build(request: BuildRequest, fetchBase: FetchBase, work: Work): Promise<BuiltImage> {
    const { context, text } = await readContext(request);
    const parsed = parseDockerfile(text, request.buildArgs);
    const bases = new Map<string, Awaited<ReturnType<FetchBase>>>();
    for (const { reference, line } of parsed.images) {
      if (bases.has(reference)) continue;
      work.log(`Fetching ${reference}, which line ${line} builds upon.`);
      bases.set(reference, await fetchBase(reference, work));
    }

    await mkdir(temporaryDirectory, { recursive: true });
    const folder = await mkdtemp(join(temporaryDirectory, "build-"));
    const namespace = await openUserNamespace(host, folder).catch(async (error: unknown) => {
      await rm(folder, { recursive: true, force: true });
      throw error;
    });
    const dispose = async () => {
      // From inside: files of a build belong to ids that an ordinary user cannot touch.
      await namespace.run("rm", ["-rf", "--", join(folder, "run")], { timeoutMs: 10 * 60_000 }).catch(() => {});
      await namespace[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    };
    try {
      const dockerfile = replaceImages(parsed, ({ reference }) => baseName(bases.get(reference)?.digest ?? ""));
      const tools = await prepare(folder, namespace, dockerfile, work.signal);
      for (const base of bases.values()) {
        const layout = join(folder, `base-${base.digest.slice(7, 23)}`);
        await writeDirectoryLayout(layout, base);
        await tools.run("skopeo", [
          ...["--policy", tools.policy, "copy", "--quiet"],
          ...[`dir:${layout}`, `containers-storage:${baseName(base.digest)}`],
        ]);
      }
      const contextCopy = await namespace.share(context, join(folder, "context"), work.signal);
      const ignoreFile = join(contextCopy, `${request.dockerfile}.dockerignore`);
      const hasIgnoreFile = await stat(ignoreFile).then(
        (found) => found.isFile(),
        () => false,
      );
      const imageIdFile = join(folder, "run", "image-id");
      await runBuild(parsed, work, (onLine) =>
        tools.run(
          "buildah",
          [
            ...[
              "bud",
              "--signature-policy",
              tools.policy,
              "--isolation",
              "chroot",
              "--format",
              "docker",
              "--pull-never",
            ],
            ...["--file", join(folder, "Dockerfile"), "--iidfile", imageIdFile],
            ...(hasIgnoreFile ? ["--ignorefile", ignoreFile] : []),
            ...Object.entries(request.buildArgs).flatMap(([key, value]) => ["--build-arg", `${key}=${value}`]),
            contextCopy,
          ],
          { onLine, timeoutMs },
        ),
      );
      const imageId = (await readFile(imageIdFile, "utf8")).trim();
      const directory = join(folder, "run", "image");
      await tools.run("buildah", [
        ...["push", "--signature-policy", tools.policy, "--quiet", "--disable-compression", "--format", "v2s2"],
        ...[imageId, `dir:${directory}`],
      ]);
      return { directory, [Symbol.asyncDispose]: dispose };
    } catch (error) {
      await dispose();
      if (error instanceof ProgramError && error.reason !== "aborted") {
        throw new BerthError(error.isDiskFull ? "disk_full" : "host_program_failed", error.message, { cause: error });
      }
      throw error;
    }
  }

  return { build };
}

/** Removes what a killed build left: some of it belongs to ids that only a namespace reaches. */
export async function removeBuild(host: Host, folder: string): Promise<void> {
  const { uid } = await host.facts();
  if (uid !== 0 && (await stat(join(folder, "run")).catch(() => undefined))) {
    await using namespace = await openUserNamespace(host, folder);
    await namespace.run("rm", ["-rf", "--", join(folder, "run")], { timeoutMs: 10 * 60_000 });
  }
  await rm(folder, { recursive: true, force: true });
}

/** The Dockerfile's text and the context's real path. A Dockerfile outside the context, by a link too, is refused. */
async function readContext(request: BuildRequest): Promise<{ context: string; text: string }> {
  const missing = (what: string) => (error: unknown) => {
    throw new BerthError("invalid_request", `${what} cannot be read on the node.`, { cause: error });
  };
  const context = await realpath(request.directory).catch(missing(request.directory));
  if (!(await stat(context)).isDirectory())
    throw new BerthError("invalid_request", `${request.directory} is not a folder.`);
  const dockerfile = await realpath(join(context, request.dockerfile)).catch(
    missing(join(context, request.dockerfile)),
  );
  if (!dockerfile.startsWith(context === sep ? sep : context + sep)) {
    throw new BerthError("invalid_request", `${request.dockerfile} is outside the folder that is built.`);
  }
  const found = await stat(dockerfile);
  if (!found.isFile() || found.size > 1024 * 1024)
    throw new BerthError("invalid_request", `${request.dockerfile} is not a Dockerfile.`);
  return { context, text: await readFile(dockerfile, "utf8") };
}

interface Tools {
  readonly policy: string;
  run(
    program: string,
    args: readonly string[],
    options?: { onLine?: (line: string) => void; timeoutMs?: number },
  ): Promise<unknown>;
}

/** Writes the settings of containers/storage and containers/image, so that nothing of the host's own is used. */
async function prepare(
  folder: string,
  namespace: UserNamespace,
  dockerfile: string,
  signal: AbortSignal,
): Promise<Tools> {
  const policy = join(folder, "policy.json");
  const registries = join(folder, "registries.conf");
  const storage = join(folder, "storage.conf");
  await writeFile(join(folder, "Dockerfile"), dockerfile);
  // What is read was verified before; nothing is pulled.
  await writeFile(policy, JSON.stringify({ default: [{ type: "insecureAcceptAnything" }] }));
  await writeFile(registries, "unqualified-search-registries = []\n");
  const text = (path: string) => JSON.stringify(path);
  await writeFile(
    storage,
    `[storage]\ndriver = "overlay"\ngraphroot = ${text(join(folder, "run", "storage"))}\nrunroot = ${text(join(folder, "run", "state"))}\n` +
      `rootless_storage_path = ${text(join(folder, "run", "storage"))}\n`,
  );
  await namespace.makeFolder(join(folder, "run"));
  const env = {
    HOME: join(folder, "run"),
    TMPDIR: join(folder, "run"),
    XDG_RUNTIME_DIR: join(folder, "run"),
    CONTAINERS_STORAGE_CONF: storage,
    CONTAINERS_REGISTRIES_CONF: registries,
    BUILDAH_ISOLATION: "chroot",
  };
  return {
    policy,
    run: async (program, args, options = {}) =>
      await namespace.run(program, args, { env, cwd: folder, signal, timeoutMs: hourMs, ...options }),
  };
}

/** Runs the build, follows its steps, and says which line failed. */
async function runBuild(
  parsed: ParsedDockerfile,
  work: Work,
  run: (onLine: (line: string) => void) => Promise<unknown>,
): Promise<void> {
  const total = parsed.lines.flat().length;
  let line: number | undefined;
  let step = "";
  let done = 0;
  let lastWords = "";
  try {
    await run((text) => {
      const said = withoutControls(text);
      work.log(said);
      const match = /^(?:\[(\d+)\/\d+\] )?STEP (\d+)\/\d+: (.*)$/.exec(said);
      if (match) {
        const [, stage = "1", number = "1", words = ""] = match;
        line = parsed.lines[Number(stage) - 1]?.[Number(number) - 1];
        step = words;
        work.progress(Math.round((done / Math.max(total, 1)) * 100), words.slice(0, 120));
        done += 1;
      } else if (said.trim() !== "" && !/^(?:level=|time=|error building|Error: |subprocess exited)/.test(said)) {
        lastWords = said;
      } else if (said.startsWith("error building") || said.startsWith("Error: ")) lastWords ||= said;
    });
  } catch (error) {
    if (!(error instanceof ProgramError) || error.reason === "aborted") throw error;
    const where =
      line === undefined ? "Before the first instruction" : `Dockerfile line ${line}, ${step.slice(0, 200)}`;
    const why = error.reason === "exit" ? lastWords || error.message : error.message;
    const isDiskFull = error.isDiskFull || /no space left on device/i.test(why);
    throw new BerthError(isDiskFull ? "disk_full" : "build_failed", `${where}: ${why.slice(0, 500)}`, { cause: error });
  }
}

/** Output of a build is shown to people: no terminal escapes. */
function withoutControls(line: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what is looked for.
  return line.replaceAll(/\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]/g, "");
}
