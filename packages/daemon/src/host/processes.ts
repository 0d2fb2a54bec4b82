import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as delay, setImmediate as othersTurn } from "node:timers/promises";
import { readBootId } from "./facts.ts";
import { type DetachOptions, type ProcessIdentity, ProgramError, type RunningProcess } from "./host.ts";
import { programEnvironment } from "./programs.ts";

/** Those of this daemon's own children that still run: the kernel tells us when they end, so nobody has to look. */
const children = new Map<number, ChildProcess>();

/**
 * libuv gives the child a session of its own (setsid) and, with a uid or gid, clears the supplementary groups (setgroups) before it takes them.
 * The output file is never reached through a link, since the folder may belong to the user that the program runs as.
 */
export async function detachProgram(
  program: string,
  args: readonly string[],
  options: DetachOptions,
): Promise<ProcessIdentity> {
  const opened = [...(options.fds ?? []), options.inputFd, options.outputFd].filter((fd) => fd !== undefined);
  try {
    let output: number | "ignore" = options.outputFd ?? "ignore";
    if (options.outputPath !== undefined) {
      const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
      output = openSync(options.outputPath, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
      opened.push(output);
    }
    const child = spawn(program, args, {
      detached: true,
      cwd: options.cwd,
      env: programEnvironment(options.env),
      stdio: [options.inputFd ?? "ignore", output, output, ...(options.fds ?? [])],
      ...(options.uid === undefined ? {} : { uid: options.uid }),
      ...(options.gid === undefined ? {} : { gid: options.gid }),
    });
    if (child.pid === undefined) {
      const [failure] = (await once(child, "error")) as [NodeJS.ErrnoException];
      if (failure.code !== "ENOENT") throw failure;
      throw new ProgramError({ program, args, exitCode: null, signal: null, reason: "not-found", stderr: "" });
    }
    child.on("error", () => {});
    // Read before the event loop can wait for the child: even one that has already ended still has its pid.
    const stat = readStat(child.pid);
    if (!stat) throw new Error(`/proc has nothing about process ${child.pid}`);
    remember(child, child.pid);
    return { pid: child.pid, startTicks: stat.startTicks, bootId: readBootId() };
  } finally {
    for (const fd of new Set(opened)) closeSync(fd);
  }
}

function remember(child: ChildProcess, pid: number): void {
  children.set(pid, child);
  child.once("exit", () => children.delete(pid));
  child.unref();
}

/** How many processes are looked at before others have their turn: each takes some 20 µs, and several times that when it has arguments. */
const looksInARow = 256;

/**
 * Processes that end while we look are left out, and so are kernel threads, which have no arguments. /proc is read without waiting, since it never waits itself: a
 * promise for each file would take ten times as long, and this is asked several times for each start of a machine.
 */
export async function listProcesses(
  isWanted: (args: readonly string[]) => boolean,
): Promise<readonly RunningProcess[]> {
  const found: RunningProcess[] = [];
  for (const [index, pid] of listPids().entries()) {
    if (index % looksInARow === looksInARow - 1) await othersTurn();
    const running = lookAt(pid, isWanted);
    if (running) found.push(running);
  }
  return found;
}

function listPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function lookAt(pid: number, isWanted: (args: readonly string[]) => boolean): RunningProcess | undefined {
  try {
    // Most are of no interest, and told by a single look.
    const seen = readArguments(pid);
    if (seen.length === 0 || !isWanted(seen)) return undefined;
    const identity = identifyProcess(pid);
    if (!identity) return undefined;
    const args = readArguments(pid);
    if (!isWanted(args)) return undefined;
    const { uid } = statSync(`/proc/${pid}`);
    // The pid may have become another's between two looks.
    return isAlive(identity) ? { identity, uid, args } : undefined;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function readArguments(pid: number): readonly string[] {
  return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
}

/** The users that processes run as; what ends while we look is left out. */
export async function listUids(): Promise<ReadonlySet<number>> {
  const stats = listPids().map((pid) => statSync(`/proc/${pid}`, { throwIfNoEntry: false }));
  return new Set(stats.flatMap((stat) => stat?.uid ?? []));
}

function isGone(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "ENOENT" || code === "ESRCH";
}

export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  return stat && !stat.ended ? { pid, startTicks: stat.startTicks, bootId: readBootId() } : undefined;
}

/** Whether that very process runs: not a zombie, not another with its pid, not one of before the node's restart. */
export function isAlive(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.startTicks === identity.startTicks && readBootId() === identity.bootId;
}

/**
 * Looks who has the pid and signals in the same breath. Node reaches no pidfd, so a window of microseconds remains in which the process could
 * end, be waited for, and its pid be given out again; Linux gives pids out in a circle, so that takes a whole round of them.
 */
export function signalProcess(
  identity: ProcessIdentity,
  signal: NodeJS.Signals,
  { group = false }: { readonly group?: boolean } = {},
): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(group ? -identity.pid : identity.pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}

/** A child of ours is waited for; a process left by an earlier daemon is looked at, less and less often. */
export async function waitForExit(identity: ProcessIdentity, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (!isAlive(identity)) return;
  const child = children.get(identity.pid);
  if (child) {
    child.ref();
    try {
      await once(child, "exit", { signal });
    } finally {
      child.unref();
    }
    return;
  }
  for (let pauseMs = 5; isAlive(identity); pauseMs = Math.min(pauseMs * 1.5, 250)) {
    await delay(pauseMs, undefined, { signal });
  }
}

/** Resolves once it is connected, and then the signal ends nothing any more. Rejects with the system's error (ENOENT, ECONNREFUSED) or an AbortError; waits without limit but the signal's. */
export async function connectUnix(path: string, signal?: AbortSignal): Promise<Duplex> {
  const socket = connect({ path });
  try {
    await once(socket, "connect", signal ? { signal } : {});
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** State and start time from /proc/PID/stat; the name in parentheses may hold anything, so fields count from its last `)` (proc(5)). */
function readStat(pid: number): { readonly startTicks: string; readonly ended: boolean } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state] = fields;
  const startTicks = fields[19];
  if (!startTicks) throw new Error(`/proc/${pid}/stat cannot be understood: ${text}`);
  return { startTicks, ended: state === "Z" || state === "X" };
}
