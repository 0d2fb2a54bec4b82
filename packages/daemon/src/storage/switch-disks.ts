import { dirname } from "node:path";
import { BerthError } from "@berth/api";
import type { HostUser } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import { createOverlay, removeOverlay } from "./qcow2.ts";

/** A disk that is to go on as an empty overlay, and what becomes of its present file. */
export interface DiskToSwitch {
  readonly name: string;
  /** The disk's own path: it stays the same, whatever file it leads to. */
  readonly path: string;
  /** Where the overlay is until it takes that path; never the same twice. */
  readonly nextPath: string;
  /** Where the present file stays for good, in a folder that only the daemon can write to; null when it goes. */
  readonly frozenPath: string | null;
  /** What the overlay stands on: the present file itself, another snapshot's, or an image's artifact, which is raw. */
  readonly basePath: string;
  readonly baseFormat: "qcow2" | "raw";
  /** How large the disk is at least. */
  readonly sizeMib: number;
}

/** Whose disks they are; null when the daemon is not root. */
type Owner = HostUser | null;

/**
 * Gives the present files their second names and makes the overlays beside the disks; nothing changes for the machine. Called again it finishes what is missing. Rejects
 * with `disk_full`, and with `host_program_failed` when a disk is no plain file of its user's: then somebody has put something else in its place.
 */
export async function prepareSwitch(
  host: Host,
  disks: readonly DiskToSwitch[],
  user: Owner,
  signal: AbortSignal,
): Promise<void> {
  for (const { name, path, nextPath, frozenPath, basePath, baseFormat, sizeMib } of disks) {
    if (frozenPath) await keepUnderName(host, path, frozenPath, user);
    const backing = { backingPath: basePath, backingFormat: baseFormat };
    await createOverlay(host, { name, path: nextPath, ...backing, sizeMib, user }, signal);
    await host.files.sync(nextPath);
  }
  await syncFolders(host, disks);
}

/**
 * Lets the disks' own paths lead to the overlays, and makes the present files the daemon's own, read-only for all. To be called when no machine writes to the present
 * files any more. Called again it finishes what is missing.
 */
export async function finishSwitch(host: Host, disks: readonly DiskToSwitch[], user: Owner): Promise<void> {
  for (const { path, nextPath } of disks) {
    if (await host.files.exists(nextPath)) await host.files.rename(nextPath, path);
  }
  for (const { frozenPath } of disks) if (frozenPath) await freeze(host, frozenPath, user);
  await syncFolders(host, disks);
}

/** Removes what `prepareSwitch` made, for disks that were never switched. */
export async function forgetSwitch(host: Host, disks: readonly DiskToSwitch[]): Promise<void> {
  for (const { path, nextPath, frozenPath } of disks) {
    await removeOverlay(host, nextPath);
    if (frozenPath && (await isSameFile(host, frozenPath, path))) await host.files.remove(frozenPath);
  }
}

/** Lets the disks be the files again that they were, for disks that nobody has written to since `prepareSwitch`. Called again it finds that done, also when the folder that they were kept in is gone. */
export async function takeBackSwitch(host: Host, disks: readonly DiskToSwitch[], user: Owner): Promise<void> {
  await forgetSwitch(host, disks);
  for (const { path, frozenPath } of disks) {
    if (!frozenPath || !(await host.files.exists(frozenPath))) continue;
    if (user) await host.files.chown(frozenPath, user.uid, user.gid);
    await host.files.chmod(frozenPath, 0o600);
    await host.files.rename(frozenPath, path);
  }
  for (const folder of foldersOf(disks)) if (await host.files.exists(folder)) await host.files.sync(folder);
}

async function keepUnderName(host: Host, path: string, frozenPath: string, user: Owner): Promise<void> {
  if (!(await host.files.exists(frozenPath))) await host.files.link(path, frozenPath);
  // Looked at under the name that nobody else can change.
  const facts = await host.files.facts(frozenPath);
  const owner = user?.uid ?? (await host.facts()).uid;
  if (facts?.isPlain && facts.uid === owner) return;
  await host.files.remove(frozenPath);
  throw new BerthError("host_program_failed", `The disk ${path} is not a plain file of its machine's user.`);
}

async function freeze(host: Host, frozenPath: string, user: Owner): Promise<void> {
  if (user) await host.files.chown(frozenPath, 0, 0);
  await host.files.chmod(frozenPath, user ? 0o444 : 0o400);
}

async function isSameFile(host: Host, one: string, other: string): Promise<boolean> {
  const [first, second] = [await host.files.facts(one), await host.files.facts(other)];
  return first !== undefined && first.id === second?.id;
}

async function syncFolders(host: Host, disks: readonly DiskToSwitch[]): Promise<void> {
  for (const folder of foldersOf(disks)) await host.files.sync(folder);
}

function foldersOf(disks: readonly DiskToSwitch[]): ReadonlySet<string> {
  const paths = disks.flatMap(({ path, frozenPath }) => [path, ...(frozenPath ? [frozenPath] : [])]);
  return new Set(paths.map((path) => dirname(path)));
}
