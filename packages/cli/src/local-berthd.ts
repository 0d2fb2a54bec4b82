import { readFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "./errors.ts";

/** The berthd of this machine, by its data folder (docs/on-disk.md). */
export interface LocalBerthd {
  /** Where it listens; undefined while it is not up. */
  readonly url: string | undefined;
  /**
   * The administrator's token, for the berthd that listens at `url` now. Throws a UserError when none does: it may have been killed since, and whoever else has its
   * address by now must not be given it.
   */
  readonly token: (url: string) => string;
}

/** The berthd whose data folder this is, up or not; undefined when the folder is none, or not for us to read. */
export function findLocalBerthd(folder: string): LocalBerthd | undefined {
  const token = readToken(folder);
  if (!token) return undefined;
  return {
    url: readAddress(folder),
    token(url) {
      if (url === readAddress(folder)) return readToken(folder) ?? token;
      throw new UserError(
        `No berthd is up that works in ${folder}.`,
        "In a clone, npm start starts it; BERTH_URL and BERTH_TOKEN say where it is when it is elsewhere.",
      );
    },
  };
}

function readToken(folder: string): string | undefined {
  return readOrNothing(join(folder, "admin-token"))?.trim();
}

/** What `listen` says while the process that wrote it lives: pid, start time and boot all have to be its. */
function readAddress(folder: string): string | undefined {
  const { url, process } = parse(readOrNothing(join(folder, "listen")) ?? "") ?? {};
  if (typeof url !== "string" || !process) return undefined;
  const bootId = readOrNothing("/proc/sys/kernel/random/boot_id")?.trim();
  return process.bootId === bootId && process.startTicks === startTicksOf(process.pid) ? url : undefined;
}

/** When a process began, in clock ticks since boot; undefined when it is no more. Its name in parentheses may hold anything, so fields count from the last `)` (proc(5)). */
function startTicksOf(pid: number): string | undefined {
  const stat = readOrNothing(`/proc/${Number(pid)}/stat`) ?? "";
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
}

interface Told {
  readonly url?: unknown;
  readonly process?: { readonly pid: number; readonly startTicks: string; readonly bootId: string };
}

function parse(text: string): Told | undefined {
  try {
    return (JSON.parse(text) as Told | null) ?? undefined;
  } catch {
    return undefined;
  }
}

/** A file's text; undefined when it is not there, or not for us to read. */
function readOrNothing(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "EACCES" || code === "ESRCH") return undefined;
    throw error;
  }
}
