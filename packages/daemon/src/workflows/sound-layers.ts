import { BerthError } from "@berth/api";
import { isSame } from "../core/is-same.ts";
import type { LayerRef } from "../core/layers.ts";
import { type Care, checkImage, findDamage } from "../storage/layer-records.ts";
import type { Services } from "./services.ts";

/** What an inspection of frozen files is told to do. */
export interface Inspection {
  readonly care: Care;
  readonly signal: AbortSignal;
  /** Hears of each file before it is looked at. */
  readonly onFile?: (name: string) => void;
}

/** What of a snapshot is looked at. */
export interface Inspected {
  readonly folder: string;
  readonly disks: readonly string[];
  readonly memory: boolean;
}

/**
 * Why a snapshot is not what it was, in words; undefined when it is. Every frozen file is looked at that its disks stand on, each once, and its memory; with the care `all` each
 * is read from end to end and the disks' own tables are checked.
 */
export async function findSnapshotDamage(
  services: Services,
  { folder, disks, memory }: Inspected,
  inspection: Inspection,
): Promise<string | undefined> {
  const damage = await findDiskDamage(services, folder, disks, inspection);
  if (damage || !memory) return damage;
  const { host, snapshotFolders: folders } = services;
  const files = await folders.filesOf(folder);
  for (const file of files.filter((name) => name.startsWith("memory/"))) {
    inspection.onFile?.(file);
    const why = await findDamage(host, folders, { folder, file }, inspection.care, inspection.signal);
    if (why) return `Its ${file}: ${why}.`;
  }
  return undefined;
}

async function findDiskDamage(
  services: Services,
  folder: string,
  disks: readonly string[],
  inspection: Inspection,
): Promise<string | undefined> {
  const { snapshotFolders: folders } = services;
  const seen = new Set<string>();
  for (const disk of disks) {
    let above: LayerRef | null = null;
    for (let at: LayerRef | null = { folder, disk }; at; at = await folders.below(folders.layerPath(at))) {
      const path = folders.layerPath(at);
      if (seen.has(path)) break;
      seen.add(path);
      inspection.onFile?.(disk);
      const damage = await findLayerDamage(services, at, inspection);
      if (damage) {
        // It was merged into the one above meanwhile: looked at once more, from the top.
        if (above && !isSame(await folders.below(folders.layerPath(above)), at))
          return findDiskDamage(services, folder, disks, inspection);
        const where = at.folder === folder ? `Its disk ${disk}` : `A file that its disk ${disk} stands on`;
        return `${where}: ${damage}.`;
      }
      above = at;
    }
  }
  return undefined;
}

async function findLayerDamage(
  { host, snapshotFolders: folders }: Services,
  ref: LayerRef,
  { care, signal }: Inspection,
): Promise<string | undefined> {
  const damage = await findDamage(host, folders, { folder: ref.folder, file: folders.fileOf(ref) }, care, signal);
  return damage ?? (care === "all" ? checkImage(host, folders, ref, signal) : undefined);
}

/** Rejects with `snapshot_damaged` when a snapshot is not what it was. Files that nobody has touched since they were last looked at are not read again. */
export async function requireSound(services: Services, inspected: Inspected, signal: AbortSignal): Promise<void> {
  const damage = await findSnapshotDamage(services, inspected, { care: "touched", signal });
  if (damage) throw new BerthError("snapshot_damaged", damage);
}
