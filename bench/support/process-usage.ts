import { readdirSync, readFileSync } from "node:fs";

const nsPerMs = 1e6;

/** The CPU time a process has used so far, all its threads together, in milliseconds: the first figure of each thread's schedstat (Linux, sched-stats.rst), in nanoseconds. */
export function cpuTimeMs(pid: number): number {
  const threads = readdirSync(`/proc/${pid}/task`);
  const ns = threads.map((id) => Number(readFileSync(`/proc/${pid}/task/${id}/schedstat`, "utf8").split(" ")[0]));
  return ns.reduce((sum, one) => sum + one, 0) / nsPerMs;
}

/** Resident memory of a process, in MiB: VmRSS of /proc/PID/status (proc(5)). */
export function residentMib(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  if (!kib) throw new Error(`process ${pid} has no VmRSS`);
  return Number(kib) / 1024;
}

/** Memory of a process in MiB, what it shares with others counted in part: Pss of /proc/PID/smaps_rollup (proc(5)). */
export function proportionalMib(pid: number): number {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const kib = /^Pss:\s+(\d+) kB$/m.exec(rollup)?.[1];
  if (!kib) throw new Error(`process ${pid} has no Pss`);
  return Number(kib) / 1024;
}

/** Memory of this machine that programs could still have, in MiB: MemAvailable of /proc/meminfo. */
export function availableMib(): number {
  return Number(/^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]) / 1024;
}
