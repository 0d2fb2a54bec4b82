import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { ProgramError, type RunningProgram, type RunOptions, type RunResult } from "./host.ts";
import { OutputCollector } from "./output-collector.ts";

const defaultTimeoutMs = 60_000;
const defaultMaxOutputBytes = 16 * 1024 * 1024;
const keptBytes = 64 * 1024;
/** How long a program told to end (SIGTERM) may take to clean up before it is killed, and nothing more is read of it. */
const graceMs = 2_000;

const systemFolders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** The folders programs are looked for in: those of PATH, then the system's. */
function searchFolders(path: string | undefined): readonly string[] {
  const own = (path ?? "").split(delimiter).filter(isAbsolute);
  return [...new Set([...own, ...systemFolders])];
}

/** The whole environment of a program: what it is given, and PATH and the locale when not given. */
export function programEnvironment(given: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH: searchFolders(process.env.PATH).join(delimiter), LANG: "C.UTF-8", ...given };
}

/** Where a program is that this user may execute: a name is looked for in PATH's absolute folders and the system's, a path is taken as it is; undefined when there is none. */
export async function findProgram(program: string): Promise<string | undefined> {
  const candidates = program.includes("/")
    ? [program]
    : searchFolders(process.env.PATH).map((folder) => join(folder, program));
  for (const candidate of candidates) {
    const runnable = await access(candidate, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (runnable) return candidate;
  }
  return undefined;
}

/**
 * Runs a program to its end and resolves with what it wrote, as UTF-8; with `onLine` with its last 64 KiB alone. It may take 60 s and write 16 MiB to each stream unless `timeoutMs` and
 * `maxOutputBytes` say otherwise: who runs something long gives its own limit. Rejects with a ProgramError, whose `reason` says how it ended, when that was not with exit code 0; with the
 * system's error when it cannot be started.
 */
export async function runProgram(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const maxBytes = options.maxOutputBytes ?? defaultMaxOutputBytes;
  const { onLine } = options;
  const watched = watch(program, args, { timeoutMs: defaultTimeoutMs, ...options });
  const collect = (stream: "stdout" | "stderr") =>
    onLine
      ? new OutputCollector({ keepLast: keptBytes, onLine: (line) => onLine(line, stream) })
      : new OutputCollector({ keepFirst: maxBytes, onOverflow: () => watched.end("output") });
  const stdout = collect("stdout");
  const stderr = collect("stderr");
  watched.child.stdout?.on("data", (chunk: Buffer) => stdout.add(chunk));
  watched.child.stderr?.on("data", (chunk: Buffer) => stderr.add(chunk));
  await watched.outcome(() => stderr.text());
  return { stdout: stdout.text(), stderr: stderr.text() };
}

/** Without `timeoutMs` it may run as long as it likes: whoever reads its stream decides. */
export function startProgram(program: string, args: readonly string[], options: RunOptions = {}): RunningProgram {
  const { onLine } = options;
  const watched = watch(program, args, options);
  const { child } = watched;
  const stderr = new OutputCollector({
    keepLast: keptBytes,
    ...(onLine ? { onLine: (line: string) => onLine(line, "stderr") } : {}),
  });
  child.stderr?.on("data", (chunk: Buffer) => stderr.add(chunk));
  const done = watched.outcome(() => stderr.text()).then(() => ({ stderr: stderr.text() }));
  done.catch(() => {}); // whoever waits for it sees the rejection; nobody has to
  if (child.pid === undefined || !child.stdin || !child.stdout) {
    throw new ProgramError({ program, args, exitCode: null, signal: null, reason: "not-found", stderr: "" });
  }
  return { pid: child.pid, stdin: child.stdin, stdout: child.stdout, done };
}

/** A child process with its time limit and cancellation. */
interface Watched {
  readonly child: ChildProcess;
  /** Ends the program and all it started in its session, for that reason; `outcome` is settled soon after, whatever still holds its streams. */
  end(reason: ProgramError["reason"]): void;
  /** Resolves when it exited with 0 and its streams are closed, which takes the end of all that share them; `stderr` is asked for its words otherwise. */
  outcome(stderr: () => string): Promise<void>;
}

function watch(program: string, args: readonly string[], options: RunOptions): Watched {
  if (options.signal?.aborted) {
    throw new ProgramError({ program, args, exitCode: null, signal: null, reason: "aborted", stderr: "" });
  }
  // A session of its own: ending it ends its children too, and the terminal's Ctrl-C leaves it to us.
  const child = spawn(program, args, {
    detached: true,
    env: programEnvironment(options.env),
    stdio: ["pipe", "pipe", "pipe"],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
  });
  let endReason: ProgramError["reason"] | undefined;
  let killTimer: NodeJS.Timeout | undefined;
  const end = (reason: ProgramError["reason"]) => {
    if (endReason) return;
    endReason = reason;
    signalGroup(child, "SIGTERM");
    killTimer = setTimeout(() => {
      signalGroup(child, "SIGKILL");
      // Its streams may never end: what took a session of its own holds them open, and is not killed with it.
      if (hasExited(child)) stopReading(child);
      else child.once("exit", () => stopReading(child));
    }, graceMs);
  };
  const timer = options.timeoutMs === undefined ? undefined : setTimeout(() => end("timeout"), options.timeoutMs);
  const onAbort = () => end("aborted");
  options.signal?.addEventListener("abort", onAbort, { once: true });
  feed(child, options.input);

  const closed = Promise.withResolvers<{ code: number | null; signal: NodeJS.Signals | null; failure?: Error }>();
  child.on("error", (failure) => closed.resolve({ code: null, signal: null, failure }));
  child.on("close", (code, signal) => closed.resolve({ code, signal }));
  const ended = closed.promise.finally(() => {
    clearTimeout(timer);
    clearTimeout(killTimer);
    options.signal?.removeEventListener("abort", onAbort);
  });

  return {
    child,
    end,
    async outcome(stderr) {
      const { code, signal, failure } = await ended;
      if (failure) throw startFailure(program, args, options, failure);
      if (code === 0 && !endReason) return;
      const reason = endReason ?? (signal ? "killed" : "exit");
      throw new ProgramError({ program, args, exitCode: code, signal, reason, stderr: stderr() });
    },
  };
}

/** Only while it has not been waited for: until then neither its pid nor its group can be anyone else's. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  const reaped = hasExited(child);
  try {
    process.kill(-child.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH" && !reaped) throw error;
  }
}

function hasExited(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

function stopReading(child: ChildProcess): void {
  child.stdout?.destroy();
  child.stderr?.destroy();
}

function feed(child: ChildProcess, input: RunOptions["input"]): void {
  const { stdin } = child;
  if (!stdin) return;
  stdin.on("error", () => {}); // it may end without reading all; its exit code tells what that means
  if (input instanceof Readable) pipeline(input, stdin).catch(() => {});
  else if (input !== undefined) stdin.end(input);
}

function startFailure(program: string, args: readonly string[], options: RunOptions, failure: Error): Error {
  const { code } = failure as NodeJS.ErrnoException;
  if (code !== "ENOENT") return failure;
  if (options.cwd !== undefined && !existsSync(options.cwd)) return new Error(`${options.cwd} is not there`);
  return new ProgramError({ program, args, exitCode: null, signal: null, reason: "not-found", stderr: "" });
}
