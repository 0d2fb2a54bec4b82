import { constants } from "node:fs";
import { access, stat } from "node:fs/promises";
import { BerthError } from "@berth/api";
import { z } from "zod";
import type { HostUser, KitDescription } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import type { Verdict } from "../driver.ts";
import type { AcceleratorKind } from "./command-line.ts";
import { machinePaths } from "./handle.ts";
import { readLog } from "./log.ts";
import { Machine } from "./machine.ts";

const VerdictV1 = z.object({
  kind: z.enum(["kvm", "tcg", "none"]),
  reason: z.string(),
  probedAt: z.number(),
}) satisfies z.ZodType<Verdict>;

const Cache = z.object({ version: z.literal(1), key: z.string(), verdict: VerdictV1 });

export interface ProbeOptions {
  readonly host: Host;
  readonly kit: KitDescription;
  readonly qemu: string;
  readonly installationId: string;
  /** As of the driver: a trial that a crash cut off is found again. */
  readonly isOurs: (uid: number) => boolean;
  /** A folder in which the trial's machine is made, and removed again. */
  readonly scratchDir: string;
  /** Where the verdict is kept: it stays as long as QEMU, the kernel, and the kit do. */
  readonly cachePath: string;
  /** Who the trial runs as; null when the daemon is not root. */
  readonly user: HostUser | null;
  readonly signal: AbortSignal;
  /** How long a guest may take to its first word; a usable KVM needs well below a second. */
  readonly timeoutMs?: { readonly kvm: number; readonly tcg: number };
}

/** An accelerator with what a hypervisor needs to use it. */
export interface Accelerator {
  readonly kind: AcceleratorKind;
  /** The group it must run in as a user of its own; null when its own does. */
  readonly gid: number | null;
}

/** What a hypervisor takes for it, as /dev/kvm is now. Rejects when it is `kvm` and the node has no /dev/kvm any more. */
export async function acceleratorOf(kind: AcceleratorKind): Promise<Accelerator> {
  return { kind, gid: kind === "kvm" ? ((await kvmGroup()) ?? null) : null };
}

const defaultTimeoutMs = { kvm: 10_000, tcg: 60_000 };

/**
 * Finds out how guests can be run, by booting the kit and waiting for its first line on the control port: a /dev/kvm that opens, and even makes
 * a machine, may still not run a kernel. Anything but KVM's success falls back to TCG, which is tried the same way.
 */
export async function probeAccelerator(options: ProbeOptions): Promise<Verdict> {
  const { host } = options;
  const key = await cacheKey(options);
  const text = await host.files.readText(options.cachePath);
  const cached = text === undefined ? undefined : Cache.safeParse(parseJson(text)).data;
  if (cached?.key === key) return cached.verdict;
  const verdict = await decide(options);
  // A node where nothing boots is about to be mended: it is tried again the next time.
  if (verdict.kind !== "none")
    await host.files.writeAtomic(options.cachePath, JSON.stringify({ version: 1, key, verdict }));
  return verdict;
}

async function decide(options: ProbeOptions): Promise<Verdict> {
  const limits = options.timeoutMs ?? defaultTimeoutMs;
  const verdict = (kind: Verdict["kind"], reason: string): Verdict => ({ kind, reason, probedAt: Date.now() });
  const kvm = (await kvmObstacle(options)) ?? (await tryBoot(options, "kvm", limits.kvm));
  if (!kvm) return verdict("kvm", "a guest booted with hardware virtualisation");
  const tcg = await tryBoot(options, "tcg", limits.tcg);
  if (!tcg) return verdict("tcg", `without hardware virtualisation: ${kvm}`);
  return verdict("none", `no guest boots here: with KVM ${kvm}; without it ${tcg}`);
}

/** Everything a verdict depends on; another one of these needs another trial. */
async function cacheKey(options: ProbeOptions): Promise<string> {
  const { host, kit, qemu } = options;
  const [{ stdout }, { kernel }] = await Promise.all([host.run(qemu, ["--version"]), host.facts()]);
  const obstacle = await kvmObstacle(options);
  return [stdout.split("\n")[0], kernel, kit.buildId, obstacle ?? "kvm"].join(" | ");
}

/** Why KVM need not even be tried; undefined when it may work. */
async function kvmObstacle({ user }: ProbeOptions): Promise<string | undefined> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return code === "ENOENT" ? "the node has no /dev/kvm" : "berthd's user may not open /dev/kvm";
  }
  if (!user || (await kvmGroup()) !== undefined) return undefined;
  return "guests run as users of their own, and /dev/kvm has no group (but root's) that may open it";
}

/** The group that may open /dev/kvm; undefined when there is none that a guest's hypervisor may have. */
async function kvmGroup(): Promise<number | undefined> {
  const { gid, mode } = await stat("/dev/kvm");
  return gid !== 0 && (mode & 0o060) === 0o060 ? gid : undefined;
}

/** Boots the kit once; resolves to why it failed, or to undefined when it spoke. Nothing of it is left, nor of a trial that a crash cut off. */
async function tryBoot(options: ProbeOptions, kind: AcceleratorKind, timeoutMs: number): Promise<string | undefined> {
  const { host, kit, user, qemu, signal, isOurs } = options;
  const owner = { installationId: options.installationId, instanceId: "probe" };
  const paths = machinePaths(options.scratchDir, owner.instanceId);
  const machine = new Machine({ host, owner, paths, isOurs });
  const limit = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
  try {
    await machine.destroy();
    await machine.create({
      owner,
      name: "probe",
      cpus: 1,
      memoryMib: 256,
      disks: [],
      nics: [],
      kit,
      user,
      launcher: [],
    });
    await machine.start({ qemu, accelerator: await acceleratorOf(kind), signal: limit });
    return await firstWord(host, machine, limit);
  } catch (error) {
    signal.throwIfAborted();
    if (limit.aborted) return `no word from it in ${timeoutMs / 1000} s`;
    if (error instanceof BerthError) return error.message;
    throw error;
  } finally {
    await machine.destroy();
  }
}

async function firstWord(host: Host, machine: Machine, limit: AbortSignal): Promise<string | undefined> {
  const over = new AbortController();
  const startedAt = (await machine.run())?.startedAt ?? 0;
  const hypervisor = await machine.hypervisor();
  const ended = hypervisor ? host.waitForExit(hypervisor, AbortSignal.any([limit, over.signal])) : Promise.resolve();
  ended.then(
    () => over.abort(),
    () => {},
  );
  const options = { follow: true, timestamps: false, signal: AbortSignal.any([limit, over.signal]) };
  const log = readLog(host, machine.paths.vm, machine.paths.logs.control, options);
  try {
    for await (const text of log) if (String(text).trim() !== "") return undefined;
    limit.throwIfAborted();
    return `QEMU ended before the guest spoke: ${(await machine.lastWords(startedAt)) || "without a word"}`;
  } finally {
    over.abort();
    log.destroy();
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
