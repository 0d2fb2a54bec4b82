import { BerthError, type Instance } from "@berth/api";
import type { HostUser } from "../core/descriptions.ts";
import { chainLength, maxLayers } from "../core/layers.ts";
import type { DiskSwitch, Driver, Handle } from "../drivers/driver.ts";
import type { DiskToSwitch } from "../storage/switch-disks.ts";
import { diskPath, nextDiskPath } from "./instance-paths.ts";
import { mergeLayers } from "./merge-layers.ts";
import type { Services } from "./services.ts";

/** What must be free on the data folder's file system: from now on all that the guest writes takes room anew. */
const minFreeBytes = 64 * 1024 * 1024;

/** All disks of an instance, as they are to be switched. */
export interface InstanceSwitch {
  readonly disks: readonly DiskToSwitch[];
  readonly user: HostUser | null;
}

/** How an instance's disks become empty overlays. */
export interface SwitchRequest {
  /** The folder that the present files go to; null when they go altogether. */
  readonly keepIn: string | null;
  /** The folder of the files that the overlays stand on, and whose disks they are; null for the present ones. A disk that is none of them goes on as it is. */
  readonly standOn: { readonly folder: string; readonly disks: readonly string[] } | null;
  /** Tells the overlays from those of any other time. */
  readonly tag: string;
}

/** What such a request means for each disk. */
export async function describeSwitch(
  services: Services,
  instance: Instance,
  { keepIn, standOn, tag }: SwitchRequest,
): Promise<InstanceSwitch> {
  const found = await services.folders.find(instance.id);
  if (!found) throw new BerthError("disk_missing", "Its folder is gone from the node's data folder.");
  const { vmPath, user } = found;
  const { snapshotFolders: folders } = services;
  const disks = instance.spec.disks.flatMap(({ name, sizeMib }): DiskToSwitch[] => {
    const frozenPath = keepIn && folders.layerPath({ folder: keepIn, disk: name });
    const isOther = standOn?.disks.includes(name) ?? false;
    const basePath = standOn && isOther ? folders.layerPath({ folder: standOn.folder, disk: name }) : frozenPath;
    if (!basePath) return [];
    const path = diskPath(vmPath, name);
    const nextPath = nextDiskPath(vmPath, name, tag);
    return [{ name, path, nextPath, frozenPath, basePath, baseFormat: "qcow2", sizeMib }];
  });
  return { disks, user };
}

/**
 * Rejects with `disk_missing`, `disk_full` or `too_many_snapshots` when the present disks cannot be kept and built upon; `moreBytes` is what else is going to be written.
 */
export async function requireSwitchable(
  services: Services,
  disks: readonly DiskToSwitch[],
  { moreBytes = 0, signal }: { readonly moreBytes?: number; readonly signal: AbortSignal },
): Promise<void> {
  const { host, snapshotFolders: folders } = services;
  for (const { name, path, frozenPath } of disks) {
    if (frozenPath && !(await host.files.exists(path)))
      throw new BerthError("disk_missing", `Its disk ${name} is gone.`);
  }
  const below = await Promise.all(disks.map(({ path }) => folders.below(path)));
  const standsOn = async () => chainLength(await folders.survey(), below);
  if ((await standsOn()) >= maxLayers) {
    // What was deleted just now may not have been merged yet.
    let failure: unknown;
    await mergeLayers(services, { signal, passOver: new Set(), onError: (error) => (failure ??= error) });
    const detail = `It stands on ${maxLayers} frozen files, which is the limit.`;
    if ((await standsOn()) >= maxLayers) throw new BerthError("too_many_snapshots", detail, { cause: failure });
  }
  const free = await host.files.freeBytes(folders.path(""));
  const needed = minFreeBytes + moreBytes;
  if (free < needed) {
    const mebibytes = (bytes: number) => `${Math.floor(bytes / 2 ** 20)} MiB`;
    throw new BerthError("disk_full", `${mebibytes(free)} are free; a snapshot needs ${mebibytes(needed)}.`);
  }
}

/** The disks as a driver is told to switch them. */
export function switchesOf(disks: readonly DiskToSwitch[]): DiskSwitch[] {
  return disks.map(({ name, nextPath }) => ({ disk: name, overlayPath: nextPath }));
}

/** Whether a running machine writes to what was prepared to take its disks' place; it does so for all of them or for none. */
export async function isSwitched(
  { host }: Services,
  driver: Driver,
  handle: Handle,
  disks: readonly DiskToSwitch[],
): Promise<boolean> {
  const active = (await driver.activeDisks?.(handle)) ?? {};
  for (const { name, nextPath } of disks) {
    if (active[name] === nextPath || !(await host.files.exists(nextPath))) return true;
  }
  return false;
}
