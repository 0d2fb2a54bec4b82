import { Readable } from "node:stream";
import type { HostUser } from "../../core/descriptions.ts";
import type { Host, OpenFile, ProcessIdentity } from "../../host/host.ts";
import type { ReadLogOptions } from "../driver.ts";

/** How much of a stream is kept: `files` finished files and the current one, each at most `bytes` long. */
export interface LogBounds {
  readonly files: number;
  readonly bytes: number;
}

/** One line of a log: when it was written (RFC 3339, UTC, nanoseconds) and what. */
export interface LogLine {
  readonly at: string;
  readonly text: string;
}

/** `2026-11-20 23:53:43.287914241  text`: s6-log's directive T, in UTC by its environment. */
const stampedLine = /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{9}) {2}/;

/** A stream that is to be kept, and where. */
export interface KeptLog {
  readonly folder: string;
  /** Handed over, and closed here. */
  readonly readFd: number;
  readonly bounds: LogBounds;
}

/**
 * Starts the programs that write streams to disk, cut into lines, stamped, rotated; resolves with the process that stands for them all and ends last. They outlive the daemon, end
 * when the last writer of their pipe ends, and go on in the same files with the next run. One line longer than `maxLine` is cut into several.
 */
export async function keepLogs(host: Host, logs: readonly KeptLog[], user: HostUser | null): Promise<ProcessIdentity> {
  const fds = logs.map((_, at) => firstPassedFd + at);
  const closed = fds.map((fd) => `${fd}<&-`).join(" ");
  // One start for all: the daemon has much memory, and to fork it costs more than all that they do.
  const starts = fds.map(
    (fd, at) => `s6-log -l ${maxLine} -- T "$${3 * at + 1}" "$${3 * at + 2}" "$${3 * at + 3}" <&${fd} ${closed} &`,
  );
  const script = [...starts, `exec ${closed}`, "wait"].join("\n");
  const args = logs.flatMap(({ bounds, folder }) => [`n${bounds.files}`, `s${bounds.bytes}`, folder]);
  return host.detach("sh", ["-c", script, "berth-logs", ...args], {
    cwd: "/",
    env: { TZ: "UTC" },
    fds: logs.map(({ readFd }) => readFd),
    ...user,
  });
}

/** The first descriptor that `detach` passes on. */
const firstPassedFd = 3;
const maxLine = 64 * 1024;

/** Reads one line as s6-log wrote it; pure. A terminal's line ends in a carriage return too, which is no part of it. */
export function parseLine(line: string): LogLine {
  const match = stampedLine.exec(line);
  const text = line.slice(match?.[0].length ?? 0).replace(/\r+$/, "");
  return { at: match ? `${match[1]}T${match[2]}Z` : "", text };
}

/** What is kept of a log, then what comes, as text lines. `name` is the log's folder below `vm`, which a guest's user owns. */
export function readLog(host: Host, vm: string, name: string, options: ReadLogOptions): Readable {
  return Readable.from(logText(host, vm, name, options), { objectMode: false });
}

async function* logText(host: Host, vm: string, name: string, options: ReadLogOptions): AsyncGenerator<string> {
  const show = ({ at, text }: LogLine) => (options.timestamps && at ? `${at} ${text}\n` : `${text}\n`);
  const follower = new LogFollower(host, vm, name);
  try {
    let kept: LogLine[] = [];
    for await (const line of follower.read()) {
      if (options.tail === undefined) yield show(line);
      else kept.push(line);
      if (kept.length > 2 * (options.tail ?? 0) + 1024) kept = lastOf(kept, options.tail ?? 0);
    }
    for (const line of lastOf(kept, options.tail ?? 0)) yield show(line);
    if (!options.follow) return;
    for await (const line of follower.follow(options.signal)) yield show(line);
  } finally {
    await follower.close();
  }
}

function lastOf<T>(list: readonly T[], count: number): T[] {
  return count === 0 ? [] : list.slice(-count);
}

/** All lines that are kept of a log, oldest first. */
export async function readLines(host: Host, vm: string, name: string): Promise<readonly LogLine[]> {
  const follower = new LogFollower(host, vm, name);
  try {
    const lines: LogLine[] = [];
    for await (const line of follower.read()) lines.push(line);
    return lines;
  } finally {
    await follower.close();
  }
}

/** Reads a rotated log without missing or repeating a line: it keeps the file it reads open, so a rotation takes nothing away from under it. */
class LogFollower {
  readonly #host: Host;
  readonly #vm: string;
  readonly #name: string;
  #file: OpenFile | undefined;
  #position = 0;
  #rest: Buffer = Buffer.alloc(0);

  constructor(host: Host, vm: string, name: string) {
    this.#host = host;
    this.#vm = vm;
    this.#name = name;
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  /** Everything from where it stands to the present end. */
  async *read(): AsyncGenerator<LogLine> {
    for (;;) {
      yield* this.#readOn();
      const next = await this.#next();
      if (!next) return;
      yield* this.#readOn(); // what was written between the last look and the rotation
      await this.close();
      this.#file = next;
      this.#position = 0;
    }
  }

  async *follow(signal: AbortSignal): AsyncGenerator<LogLine> {
    const stopped = new AbortController();
    try {
      const changes = this.#host.files.watch(`${this.#vm}/${this.#name}`, AbortSignal.any([signal, stopped.signal]));
      const iterator = changes[Symbol.asyncIterator]();
      for (let changed = iterator.next(); ; changed = iterator.next()) {
        yield* this.read(); // the watch began with next(): nothing written since is missed
        if (!(await changed).done) continue;
        yield* this.read(); // what was written before the end
        return;
      }
    } finally {
      stopped.abort();
    }
  }

  async *#readOn(): AsyncGenerator<LogLine> {
    while (this.#file) {
      const bytes = await this.#file.read(this.#position);
      if (bytes.length === 0) return;
      this.#position += bytes.length;
      let text = Buffer.concat([this.#rest, bytes]);
      for (let end = text.indexOf(10); end >= 0; end = text.indexOf(10)) {
        yield parseLine(text.subarray(0, end).toString("utf8"));
        text = text.subarray(end + 1);
      }
      this.#rest = text;
    }
  }

  /** The file after the one being read: s6-log names finished ones by time (@TAI64N), the one it writes `current`. */
  async #next(): Promise<OpenFile | undefined> {
    const finished = (await this.#host.files.list(`${this.#vm}/${this.#name}`)).filter((file) => file.startsWith("@"));
    let reached = this.#file === undefined;
    for (const file of [...finished, "current"]) {
      const opened = await this.#host.files.openUntrusted(this.#vm, `${this.#name}/${file}`);
      if (opened && reached) return opened;
      if (opened?.id === this.#file?.id) reached = true;
      await opened?.close();
    }
    // The one being read was rotated out of the bounds: the oldest that is left comes next.
    if (reached) return undefined;
    const [oldest = "current"] = finished;
    return this.#host.files.openUntrusted(this.#vm, `${this.#name}/${oldest}`);
  }
}
