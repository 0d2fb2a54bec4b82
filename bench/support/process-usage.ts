import { readFileSync } from "node:fs";

/** Linux tells times in /proc in hundredths of a second (USER_HZ, proc(5)). */
const msPerTick = 10;

/** The CPU time a process has used so far, all its threads together, in milliseconds: utime and stime of /proc/PID/stat (proc(5)), to ten milliseconds. */
export function cpuTimeMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) * msPerTick;
}

/** Resident memory of a process, in MiB: VmRSS of /proc/PID/status (proc(5)). */
export function residentMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  if (!kib) throw new Error(`process ${pid} has no VmRSS`);
  return Number(kib) / 1024;
}
