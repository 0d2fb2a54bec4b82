import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, constants, openSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { readBootId } from "./facts.ts";
import { type DetachOptions, type ProcessIdentity, ProgramError } from "./host.ts";
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
  const { O_WRONLY, O_APPEND, O_CREAT, O_NOFOLLOW } = constants;
  const output = openSync(options.outputPath, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
  const fds = options.fds ?? [];
  try {
    const child = spawn(program, args, {
      detached: true,
      cwd: options.cwd,
      env: programEnvironment(options.env),
      stdio: ["ignore", output, output, ...fds],
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
    for (const fd of [output, ...fds]) closeSync(fd);
  }
}

function remember(child: ChildProcess, pid: number): void {
  children.set(pid, child);
  child.once("exit", () => children.delete(pid));
  child.unref();
}

export function identifyProcess(pid: number): ProcessIdentity | undefined {
  const stat = readStat(pid);
  return stat && !stat.ended ? { pid, startTicks: stat.startTicks, bootId: readBootId() } : undefined;
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identifyProcess(identity.pid)?.startTicks === identity.startTicks && readBootId() === identity.bootId;
}

/**
 * Looks who has the pid and signals in the same breath. Node reaches no pidfd, so a window of microseconds remains in which the process could
 * end, be waited for, and its pid be given out again; Linux gives pids out in a circle, so that takes a whole round of them.
 */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
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
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state] = fields;
  const startTicks = fields[19];
  if (!startTicks) throw new Error(`/proc/${pid}/stat cannot be understood: ${text}`);
  return { startTicks, ended: state === "Z" || state === "X" };
}
