import { BerthError } from "@berth/api";
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

/**
 * Why a snapshot's disks are not what they were, in words; undefined when they are. Every frozen file is looked at that they stand on, each once; with the care `all` each
 * is read from end to end and its own tables are checked.
 */
export async function findSnapshotDamage(
  { host, snapshotFolders: folders }: Services,
  folder: string,
  disks: readonly string[],
  { care, signal, onFile }: Inspection,
): Promise<string | undefined> {
  const seen = new Set<string>();
  for (const disk of disks) {
    for (let at: LayerRef | null = { folder, disk }; at; at = await folders.below(folders.layerPath(at))) {
      const path = folders.layerPath(at);
      if (seen.has(path)) break;
      seen.add(path);
      onFile?.(disk);
      const where = at.folder === folder ? `Its disk ${disk}` : `A file that its disk ${disk} stands on`;
      const damage = await findDamage(host, folders, at, care, signal);
      if (damage) return `${where}: ${damage}.`;
      const unsound = care === "all" ? await checkImage(host, folders, at, signal) : undefined;
      if (unsound) return `${where}: ${unsound}.`;
    }
  }
  return undefined;
}

/** Rejects with `snapshot_damaged` when a snapshot's disks are not what they were. Files that nobody has touched since they were last looked at are not read again. */
export async function requireSound(
  services: Services,
  folder: string,
  disks: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const damage = await findSnapshotDamage(services, folder, disks, { care: "touched", signal });
  if (damage) throw new BerthError("snapshot_damaged", damage);
}
