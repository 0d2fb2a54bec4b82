import { z } from "zod";
import type { Host, ProcessIdentity } from "../../host/host.ts";
import type { CreateInputs } from "../driver.ts";
import type { Accelerator } from "./accelerator.ts";
import { siblingCommandLine } from "./command-line.ts";
import type { MachinePaths } from "./handle.ts";
import { isNotYet, Qmp } from "./qmp.ts";

/** What a sibling is started with. */
export interface SiblingOptions {
  readonly host: Host;
  readonly qemu: string;
  readonly accelerator: Accelerator;
  readonly inputs: CreateInputs;
  readonly paths: MachinePaths;
  /** The file that becomes the guest's memory; it belongs to the machine's user. */
  readonly ramPath: string;
  readonly diskBytes: readonly number[];
  readonly signal: AbortSignal;
}

/**
 * Starts a machine's sibling and resolves with a conversation with it, once it waits for the machine's state. Whoever starts it ends it: `Machine.endSibling` does, also for a daemon
 * that was killed before it could.
 */
export async function startSibling(options: SiblingOptions): Promise<Qmp> {
  const { host, qemu, accelerator, inputs, paths, signal } = options;
  const sockets = paths.siblingSockets;
  for (const path of Object.values(sockets)) await host.files.remove(path);
  const args = siblingCommandLine(inputs, { accelerator: accelerator.kind, sockets, diskBytes: options.diskBytes });
  const user = inputs.user && { uid: inputs.user.uid, gid: accelerator.gid ?? inputs.user.gid };
  // It needs no network. Where the machine has a namespace of its own, the sibling gets one with nothing in it: it reads what a guest may have made.
  const launcher = inputs.launcher.length > 0 ? ["unshare", "--map-current-user", "--net", "--"] : [];
  const [program = qemu, ...rest] = [...launcher, qemu, ...args];
  const process = await host.detach(program, rest, {
    cwd: paths.vm,
    outputPath: paths.siblingLog,
    fds: [await host.files.openDescriptor(options.ramPath, "read-write")],
    ...user,
  });
  return answering(host, { path: sockets.qmp, process, signal }).catch(async (error: Error) => {
    signal.throwIfAborted();
    throw new Error(`The machine's sibling did not start: ${(await siblingWords(host, paths)) || error.message}`);
  });
}

/** What the sibling last had to complain about. */
export async function siblingWords(host: Host, paths: MachinePaths): Promise<string> {
  const text = (await host.files.readText(paths.siblingLog, maxWordsBytes).catch(() => "")) ?? "";
  return text.trim().split("\n").slice(-3).join(" | ").slice(-500);
}

const maxWordsBytes = 64 * 1024;

/** Its monitor's socket appears a moment after the process: tried until it answers, or the process has ended. */
export async function answering(
  host: Host,
  { path, process, signal }: { readonly path: string; readonly process: ProcessIdentity; readonly signal: AbortSignal },
): Promise<Qmp> {
  const stopWaiting = new AbortController();
  const ended = host.waitForExit(process, AbortSignal.any([signal, stopWaiting.signal])).then(
    () => true,
    () => true,
  );
  try {
    for (;;) {
      try {
        return await Qmp.connect(host, path, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (!isNotYet(error)) throw error;
      }
      const pause = Promise.withResolvers<boolean>();
      const timer = setTimeout(() => pause.resolve(false), lookEveryMs);
      const over = await Promise.race([ended, pause.promise]);
      clearTimeout(timer);
      signal.throwIfAborted();
      if (over) throw new Error("it ended at once");
    }
  } finally {
    stopWaiting.abort();
  }
}

const lookEveryMs = 5;

/** How a migration stands, as QEMU's events tell (qapi/migration.json, MIGRATION). */
const Migration = z.object({ status: z.string() });

/** The state of a conversation's migration by its last event; undefined before the first. */
function migrationStatus(qmp: Qmp): string | undefined {
  const event = qmp.events("MIGRATION").at(-1);
  return event && Migration.parse(event.data).status;
}

/** Waits until QEMU says that its migration has come so far; rejects when it failed or was cancelled. */
export async function untilMigration(qmp: Qmp, wanted: string, signal: AbortSignal): Promise<void> {
  const status = await qmp.until(() => {
    const seen = migrationStatus(qmp);
    return seen !== undefined && [wanted, "failed", "cancelled"].includes(seen) ? seen : undefined;
  }, signal);
  if (status !== wanted) throw new Error(`QEMU's migration ${status}`);
}
