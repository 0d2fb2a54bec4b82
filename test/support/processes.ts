import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** A process, told apart from a later one of the same pid. */
export interface ProcessMark {
  readonly pid: number;
  /** Clock ticks from boot to its start: field 22 of /proc/PID/stat (proc(5)). */
  readonly startTicks: string;
  readonly bootId: string;
  /** Pids of another namespace cannot be judged from here. */
  readonly pidNamespace: string;
}

/** The mark of a living process; undefined when there is none (a zombie counts as none). */
export function markProcess(pid: number): ProcessMark | undefined {
  const stat = readStat(pid);
  if (!stat) return undefined;
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state] = fields;
  if (state === "Z" || state === "X") return undefined;
  return { pid, startTicks: fields[19] ?? "", ...here() };
}

/** What pids and start times are counted in: this boot, and the namespace of the /proc that is looked at. */
function here() {
  return {
    bootId: readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    pidNamespace: readlinkSync("/proc/self/ns/pid"),
  };
}

/** Whether that very process lives. One of another container sharing this temporary folder counts as living, since nobody can tell. */
export function mayLive(mark: ProcessMark): boolean {
  const { bootId, pidNamespace } = here();
  if (mark.bootId !== bootId) return false;
  return mark.pidNamespace !== pidNamespace || markProcess(mark.pid)?.startTicks === mark.startTicks;
}

/** Only a process that is surely not there counts as gone: one that cannot be read just now (no descriptor left, no memory) is an error. */
function readStat(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}

/** A process that a folder's name betrays: it stands in its arguments, environment or working directory. */
export interface FoundProcess extends ProcessMark {
  readonly commandLine: string;
}

/** Every living process, other than this one, that belongs to a folder. */
export function processesOf(folder: string): FoundProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      const mark = markProcess(Number(name));
      const commandLine = readProc(`${name}/cmdline`) ?? "";
      const texts = [commandLine, readProc(`${name}/environ`) ?? "", `${readLink(`/proc/${name}/cwd`)}`];
      return mark && texts.some((text) => mentions(text, folder))
        ? [{ ...mark, commandLine: commandLine.replaceAll("\0", " ").trim() }]
        : [];
    });
}

/** Whether a text names exactly this folder or something in it, not one whose name merely begins alike. */
export function mentions(text: string, folder: string): boolean {
  for (let at = text.indexOf(folder); at >= 0; at = text.indexOf(folder, at + 1)) {
    const next = text[at + folder.length];
    if (next === undefined || !/[\w.-]/.test(next)) return true;
  }
  return false;
}

function readProc(path: string): string | undefined {
  try {
    return readFileSync(`/proc/${path}`, "utf8");
  } catch {
    return undefined;
  }
}

function readLink(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
