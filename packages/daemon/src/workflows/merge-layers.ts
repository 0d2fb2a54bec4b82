import { isSame } from "../core/is-same.ts";
import { type LayerRef, type Merge, planLayers } from "../core/layers.ts";
import { findDamage, recordLayers, replaceLayer, sumOf } from "../storage/layer-records.ts";
import { makeMerged } from "../storage/merged-layer.ts";
import type { Replaced } from "../storage/snapshot-folders.ts";
import { readInstance } from "../store/instances.ts";
import { collectLayers, lookAtLayers } from "./collect-layers.ts";
import { findHandle } from "./observe-instance.ts";
import type { Services } from "./services.ts";

/** Where a test lets the daemon die: before and after the copy, the exchange of two files, and the end of a former one. */
export const mergePoints = ["copy", "replace", "let-go"].flatMap((part) =>
  ["before", "after"].map((side) => `layers.merge/${part}/${side}`),
);

/** How merging is stopped, and who hears of what could not be merged: it stays as it is. */
export interface MergeWork {
  readonly signal: AbortSignal;
  /** Files that nothing is merged into this time. */
  readonly passOver: ReadonlySet<string>;
  onError(error: unknown, path: string): void;
}

/**
 * Merges frozen files that no snapshot needs with those that stand on them, where `planLayers` finds it worthwhile (docs/snapshots.md). Nobody is kept waiting: a file that shows the
 * same takes the place of the one above, running machines go over to it, and a former file goes when nobody has it open. Killed anywhere, each disk stands on what it stood on, and the
 * next call goes on.
 */
export function mergeLayers(services: Services, work: MergeWork): Promise<void> {
  const { host, snapshotFolders: folders } = services;
  return folders.merging(async () => {
    const left = await folders.leftByMerges();
    for (const path of left.half) await host.files.remove(path);
    // What only seems to be read any more would keep what is below from being merged.
    await removeUnused(services, left.replaced);
    const tried = new Set(work.passOver);
    for (;;) {
      const { merge: merges } = planLayers((await lookAtLayers(services)).seen);
      const merge = merges.find(({ into }) => !tried.has(folders.layerPath(into)));
      if (!merge) break;
      const path = folders.layerPath(merge.into);
      tried.add(path);
      const done = mergeOne(services, merge, work.signal).catch(async (error: unknown) => {
        // What was deleted meanwhile needs no merging.
        if (await host.files.exists(path)) throw error;
      });
      await reported(work, path, done);
      await host.files.remove(folders.halfPath(merge.into));
    }
    const former = left.replaced.length > 0 || tried.size > work.passOver.size;
    if ((await letGo(services, work)) || former) await collectLayers(services);
  });
}

/** What fails stays as it is, and the rest goes on. */
async function reported({ signal, onError }: MergeWork, path: string, done: Promise<void>): Promise<void> {
  await done.catch((error: unknown) => {
    signal.throwIfAborted();
    onError(error, path);
  });
}

async function mergeOne(services: Services, merge: Merge, signal: AbortSignal): Promise<void> {
  const { host, snapshotFolders: folders, faults } = services;
  const { into, hidden } = merge;
  const pass = (part: string, side: "before" | "after") => faults.pass(`layers.merge/${part}/${side}`, signal);
  await pass("copy", "before");
  // A copy of what is damaged would pass for sound.
  for (const ref of [into, ...hidden]) {
    const damage = await findDamage(host, folders, { folder: ref.folder, file: folders.fileOf(ref) }, "all", signal);
    if (damage) throw new Error(`${folders.layerPath(ref)} cannot be merged: ${damage}`);
  }
  await recordLayers(host, folders, into.folder, { signal, only: folders.fileOf(into) });
  await makeMerged(host, folders, merge, { signal, progress: () => undefined });
  const sha256 = await sumOf(host, folders.halfPath(into), signal);
  await pass("copy", "after");
  await folders.alone(async () => {
    const now = planLayers((await lookAtLayers(services)).seen).merge;
    if (!now.some((other) => isSame(linksOf(other), linksOf(merge)))) return;
    await replaceLayer(host, folders, { ref: into, sha256, pass: (side) => pass("replace", side) });
  });
}

/** What a merge is of, without sizes. */
function linksOf({ into, hidden, onto }: Merge) {
  const refOf = ({ folder, disk }: LayerRef) => ({ folder, disk });
  return { files: [into, ...hidden].map(refOf), onto: onto && refOf(onto) };
}

/**
 * Removes former files that nobody has open, after running machines have gone over to the present ones. Who has opened one and not yet what is below it, a program that is just starting,
 * has it open: as long as there is one, all that it stands on stays. Resolves with whether there was any.
 */
async function letGo(services: Services, work: MergeWork): Promise<boolean> {
  const { snapshotFolders: folders, faults } = services;
  const { replaced } = await folders.leftByMerges();
  if (replaced.length === 0) return false;
  await faults.pass("layers.merge/let-go/before", work.signal);
  const used = await removeUnused(services, replaced);
  if (used.length > 0) {
    for (const instanceId of await services.folders.list())
      await reported(work, services.folders.path(instanceId), goOver(services, instanceId, used, work.signal));
    await removeUnused(services, used);
  }
  await faults.pass("layers.merge/let-go/after", work.signal);
  return true;
}

/** Resolves with those that somebody has open. */
async function removeUnused(
  { host: { files }, snapshotFolders: folders }: Services,
  replaced: readonly Replaced[],
): Promise<readonly Replaced[]> {
  const former = new Map<string, Replaced>();
  for (const one of replaced) {
    const [facts, present] = [await files.facts(one.path), await files.facts(folders.layerPath(one.ref))];
    // The present one itself has a second name when the exchange was cut short.
    if (!facts || facts.id === present?.id) await files.remove(one.path);
    else former.set(facts.id, one);
  }
  const open = await files.openAmong(new Set(former.keys()));
  for (const [id, { path }] of former) if (!open.has(id)) await files.remove(path);
  return [...former].flatMap(([id, one]) => (open.has(id) ? [one] : []));
}

/** Lets an instance's machine, when it runs, read the present files below its disks in place of the former ones. */
async function goOver(
  services: Services,
  instanceId: string,
  replaced: readonly Replaced[],
  signal: AbortSignal,
): Promise<void> {
  const { snapshotFolders: folders } = services;
  const instance = await readInstance(services.store.queries, instanceId);
  const handle = instance && (await findHandle(services, instance));
  if (!handle) return;
  const driver = services.driver(instance.location);
  if (!driver.reopenBacking || (await driver.inspect(handle)).power === "stopped") return;
  const backingOf = async (activePath: string) => {
    const below = await folders.below(activePath);
    const chain = await folders.chain(below);
    const isFormer = chain.some((layer) => replaced.some(({ ref }) => isSame(ref, layer)));
    return below && isFormer ? folders.layerPath(below) : undefined;
  };
  await driver.reopenBacking(handle, backingOf, signal);
}
