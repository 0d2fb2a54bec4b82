import type { Duplex, Readable, Writable } from "node:stream";

/** How a program is run. There is never a shell: the arguments reach the program as they are. */
export interface RunOptions {
  readonly cwd?: string;
  /** The whole environment; PATH and the locale are added when missing, nothing else is inherited. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array | Readable;
  /**
   * Ends the program after this long, in milliseconds, with all that it started in its session: SIGTERM, and SIGKILL 2 s later. What took a session of its own goes on, but is not waited
   * for. `run` takes 60 s when not given, `start` no limit.
   */
  readonly timeoutMs?: number;
  /** More output than this fails the run; 16 MiB when not given. */
  readonly maxOutputBytes?: number;
  /** Ends the program as `timeoutMs` does. */
  readonly signal?: AbortSignal;
  /** Runs as this user with no supplementary groups; only root can. */
  readonly uid?: number;
  readonly gid?: number;
  /** Called for each line of either stream as it is written; output is then not collected but for the last 64 KiB. */
  readonly onLine?: (line: string, stream: "stdout" | "stderr") => void;
}

export interface RunResult {
  readonly stdout: string;
  readonly stderr: string;
}

/** A running program with its streams; `done` rejects with a ProgramError when it fails. */
export interface RunningProgram {
  readonly pid: number;
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly done: Promise<{ readonly stderr: string }>;
}

/** A process that outlives the daemon. It is ours only while pid, start time and boot id all match. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks from boot to its start: field 22 of /proc/PID/stat (proc(5)). */
  readonly startTicks: string;
  readonly bootId: string;
}

/** A process as /proc shows it: its arguments exactly as it was given them. */
export interface RunningProcess {
  readonly identity: ProcessIdentity;
  readonly uid: number;
  readonly args: readonly string[];
}

export interface DetachOptions {
  readonly cwd: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
  readonly gid?: number;
  /** Where standard output and error are appended, never through a link; nowhere when neither this nor `outputFd` is given. */
  readonly outputPath?: string;
  /** A descriptor for standard output and error; closed here afterwards. */
  readonly outputFd?: number;
  /** A descriptor for standard input, which is empty otherwise; closed here afterwards. */
  readonly inputFd?: number;
  /** Further descriptors to pass as 3, 4, …; they are closed here afterwards. */
  readonly fds?: readonly number[];
}

export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/** The machine a driver works on. The only door to its programs, files and sockets: `local`, later `ssh`. */
export interface Host {
  readonly name: string;
  /** Runs a program to its end. Rejects with a ProgramError when it exits otherwise than with 0, is killed, or cannot be found. */
  run(program: string, args: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Starts a program and hands over its streams. It may run as long as it likes unless `timeoutMs` is given. */
  start(program: string, args: readonly string[], options?: RunOptions): RunningProgram;
  /** Starts a program in a session of its own that the daemon's end does not touch. */
  detach(program: string, args: readonly string[], options: DetachOptions): Promise<ProcessIdentity>;
  /** One-way channels between programs: their ends are handed to `detach`, which closes them here. */
  pipes(count: number): Promise<readonly Pipe[]>;
  /** The processes whose arguments are wanted, for finding one by an exact argument. Those without any, the kernel's, never are. */
  processes(isWanted: (args: readonly string[]) => boolean): Promise<readonly RunningProcess[]>;
  /** The uids that processes run as now. */
  uids(): Promise<ReadonlySet<number>>;
  /** Who has this pid now; undefined when nobody has. */
  identify(pid: number): Promise<ProcessIdentity | undefined>;
  /** Whether that very process still runs (a zombie does not). */
  isAlive(identity: ProcessIdentity): Promise<boolean>;
  /** Sends a signal to that very process and no other; false when it is gone. Uses a pidfd-like check: never signals a reused pid. */
  signal(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean>;
  /** The same to all processes of the group that this one, started by `detach`, is the first of. */
  signalGroup(identity: ProcessIdentity, signal: NodeJS.Signals): Promise<boolean>;
  /** Resolves when that very process is gone. */
  waitForExit(identity: ProcessIdentity, signal: AbortSignal): Promise<void>;
  /** Binds a port for a moment: the port it was, any free one for 0, or undefined when it is taken. Rejects when the address is not this machine's. */
  tryPort(protocol: "tcp" | "udp", address: string, port: number): Promise<number | undefined>;
  /** Connects to a unix socket. */
  connect(path: string, signal?: AbortSignal): Promise<Duplex>;
  /** Listens on a unix socket that only this user may connect to, and takes one connection. */
  listen(path: string, user: { readonly uid: number; readonly gid: number } | null): Promise<UnixListener>;
  /** Where a program is, searching PATH and the sbin folders; undefined when it is not installed. */
  find(program: string): Promise<string | undefined>;
  readonly files: HostFiles;
  facts(): Promise<HostFacts>;
}

/** A unix socket that waits for one connection; closing it removes it. */
export interface UnixListener {
  /** The first connection. */
  accept(signal: AbortSignal): Promise<Duplex>;
  close(): Promise<void>;
}

export interface HostFacts {
  readonly bootId: string;
  readonly hostname: string;
  readonly kernel: string;
  readonly architecture: "amd64" | "arm64";
  readonly cpus: number;
  readonly memoryMib: number;
  /** What programs may still take before others are swapped out (MemAvailable of /proc/meminfo). */
  readonly memoryAvailableMib: number;
  readonly uid: number;
  readonly gid: number;
  /** All addresses of its network interfaces now, loopback's included. */
  readonly addresses: readonly string[];
}

/** A plain file open for reading. `id` tells it from any other that had or will have its name. */
export interface OpenFile {
  readonly id: string;
  /** Up to 64 KiB from there; empty at its present end. */
  read(position: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** What the file system says of one file; a link is itself, not what it leads to. */
export interface FileFacts {
  readonly isPlain: boolean;
  readonly uid: number;
  readonly sizeBytes: number;
  /** Bytes it takes on the disk: less than its size when it has holes. */
  readonly usedBytes: number;
  /** How many names it has. */
  readonly names: number;
  /** Tells the file from any other, whatever its names. */
  readonly id: string;
  /** Another one whenever its content, owner, mode or number of names may have changed since: size and times to the nanosecond. */
  readonly stamp: string;
}

/** The host's files. Paths are absolute. */
export interface HostFiles {
  exists(path: string): Promise<boolean>;
  /** The text of a file; undefined when it is not there. */
  readText(path: string, maxBytes?: number): Promise<string | undefined>;
  /**
   * Writes to a temporary neighbour, syncs it and renames it into place, so that a reader sees the old or the new, never half. With `passing` nothing is synced: after a crash of the
   * whole machine it may be empty or gone.
   */
  writeAtomic(
    path: string,
    content: string | Uint8Array,
    options?: { mode?: number; uid?: number; gid?: number; passing?: boolean },
  ): Promise<void>;
  makeDirectory(path: string, options?: { mode?: number; uid?: number; gid?: number }): Promise<void>;
  /** Resolves when it is already gone. Never follows a link out of it. */
  remove(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /**
   * Gives what is made the name it is found by: a file, or a folder with all that is in it, is on the disk before it is renamed, and its new name is when this resolves. So what has the
   * name is whole, also after the node lost its power. Rejects with the system's error, ENOSPC among them: some file systems find their place only now.
   */
  renameSynced(from: string, to: string): Promise<void>;
  list(path: string): Promise<readonly string[]>;
  size(path: string): Promise<number | undefined>;
  /** What a file, or a folder with all that is in it, takes on the disk, in bytes; 0 when it is not there. */
  usedBytes(path: string): Promise<number>;
  /**
   * Which of some files, by the `id` of their facts, any process has open, also without a name. All that the daemon started are looked at, whoever they run as (ptrace(2), access
   * mode checking); others may not let themselves be.
   */
  openAmong(ids: ReadonlySet<string>): Promise<ReadonlySet<string>>;
  /** Tells the file that has this name now from any other, whatever it is called: device, inode number and time of birth. Undefined when there is none. */
  identity(path: string): Promise<string | undefined>;
  /** The uid it belongs to; undefined when it is not there. */
  owner(path: string): Promise<number | undefined>;
  /** Undefined when it is not there. */
  facts(path: string): Promise<FileFacts | undefined>;
  /** Gives a file a second name on the same file system; a link is not followed. Rejects when there is something of that name. */
  link(from: string, to: string): Promise<void>;
  /** Makes what was written to a file, or renamed and removed in a folder, durable. */
  sync(path: string): Promise<void>;
  /** The first bytes of a plain file; undefined when there is none of that name, a link included. Never waits for a pipe. */
  readHead(path: string, bytes: number): Promise<Uint8Array | undefined>;
  chown(path: string, uid: number, gid: number): Promise<void>;
  chmod(path: string, mode: number): Promise<void>;
  readStream(path: string, options?: { start?: number; end?: number }): Readable;
  writeStream(path: string, options?: { mode?: number }): Writable;
  freeBytes(path: string): Promise<number>;
  /** Opens a file for reading, or for both: a descriptor for `detach`, which closes it, or for `closeDescriptor`. */
  openDescriptor(path: string, mode?: "read" | "read-write"): Promise<number>;
  closeDescriptor(fd: number): Promise<void>;
  /** Makes an empty file of that length, all of it a hole. Rejects when there is one. */
  makeSparse(path: string, bytes: number, options: { mode: number; uid?: number; gid?: number }): Promise<void>;
  /**
   * Opens a plain file below a folder that another user may write to: nothing below the folder may be a link, so a guest that took over its
   * hypervisor cannot make the daemon read something else. Undefined when it is not there; rejects when it is something else.
   */
  openUntrusted(folder: string, name: string): Promise<OpenFile | undefined>;
  /** Yields when something in the folder has changed; several changes may be one. */
  watch(path: string, signal: AbortSignal): AsyncIterable<void>;
}

/** Whether a file could not be written for want of space, or of the user's share of it (errno(3)). */
export function isNoSpace(error: unknown): boolean {
  return error instanceof Error && "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
}

/** A program on the host that failed: facts for whoever must act. The arguments are those given, so never pass a secret as one. */
export class ProgramError extends Error {
  readonly program: string;
  readonly args: readonly string[];
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly reason: "exit" | "killed" | "timeout" | "aborted" | "output" | "not-found";
  readonly stderr: string;

  constructor(facts: {
    program: string;
    args: readonly string[];
    exitCode: number | null;
    signal: NodeJS.Signals | null;
    reason: ProgramError["reason"];
    stderr: string;
  }) {
    const lastWords = facts.stderr.trim().split("\n").slice(-3).join(" | ");
    const outcome = {
      exit: `ended with exit code ${facts.exitCode}`,
      killed: `was killed by ${facts.signal}`,
      timeout: "took too long",
      aborted: "was cancelled",
      output: "wrote more than allowed",
      "not-found": "is not installed",
    }[facts.reason];
    super(`${facts.program} ${outcome}${lastWords ? `: ${lastWords}` : ""}`);
    this.name = "ProgramError";
    this.program = facts.program;
    this.args = facts.args;
    this.exitCode = facts.exitCode;
    this.signal = facts.signal;
    this.reason = facts.reason;
    this.stderr = facts.stderr;
  }

  /** Whether it failed for want of space: the words that strerror(3) has for ENOSPC and EDQUOT. */
  get isDiskFull(): boolean {
    return /No space left on device|Disk quota exceeded/i.test(this.stderr);
  }
}
