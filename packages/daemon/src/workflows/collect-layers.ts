import { join } from "node:path";
import { planLayers, type SeenLayers, type StandingDisk, sizesOf } from "../core/layers.ts";
import { listAwaitedMemory, listInstanceLayers } from "../store/instances.ts";
import { listSnapshotFolders, writeSnapshotSizes } from "../store/snapshots.ts";
import { diskPath } from "./instance-paths.ts";
import type { Services } from "./services.ts";

/**
 * Removes frozen files that nothing stands on any more, and writes down what each snapshot holds now. What stands on what is read from the files themselves: only who is
 * about to stand on one, an instance whose disks are still to be made, is known by its row. `leavingId` is an instance that is going, and needs nothing.
 */
export async function collectLayers(services: Services, leavingId?: string): Promise<void> {
  const { snapshotFolders: folders } = services;
  await folders.alone(async () => {
    const memory = new Set(await listAwaitedMemory(services.store.queries, services.nodeId));
    const { seen, present, snapshots } = await lookAtLayers(services, leavingId);
    for (const ref of planLayers(seen).remove) await services.host.files.remove(folders.layerPath(ref));
    for (const folder of present) {
      if (seen.kept.has(folder)) continue;
      if (!memory.has(folder)) await services.host.files.remove(folders.memoryPath(folder));
      if ((await folders.filesOf(folder)).length === 0) await folders.remove(folder);
    }
    await writeSizes(services, seen, snapshots);
  });
}

type SnapshotRows = Awaited<ReturnType<typeof listSnapshotFolders>>;

/** What is on the node, the folders there are, and the snapshots. */
export async function lookAtLayers(
  services: Services,
  leavingId?: string,
): Promise<{ seen: SeenLayers; present: readonly string[]; snapshots: SnapshotRows }> {
  const { store, nodeId, snapshotFolders } = services;
  // First: whoever makes a folder has its row already, of a snapshot or of an instance. What comes after is left to the next look.
  const present = await snapshotFolders.list();
  const snapshots = await listSnapshotFolders(store.queries, nodeId);
  const awaited = await listAwaited(services, leavingId);
  // Disks before frozen files: a file only ever moves from the former to the latter, so none is missed.
  const disks = await listDisks(services);
  const layers = await snapshotFolders.survey();
  // A former file of a merge is read by somebody: what it stands on must stay as well.
  for (const { below } of (await snapshotFolders.leftByMerges()).replaced) disks.push({ below });
  const since = layers.map(({ folder }) => folder).filter((folder) => !present.includes(folder));
  const made = snapshots.filter(({ state }) => state === "ready").map(({ folder }) => folder);
  const unsettled = new Set([
    ...snapshots.filter(({ state }) => state !== "ready").map(({ folder }) => folder),
    ...awaited,
    ...since,
  ]);
  return { seen: { layers, disks, kept: new Set([...made, ...unsettled]), unsettled }, present, snapshots };
}

/** The folders that an instance is about to be made from: it has a row already, and not all of its disks. */
async function listAwaited({ store, nodeId, folders, host }: Services, leavingId?: string): Promise<string[]> {
  const awaited: string[] = [];
  for (const { id, layers, disks } of await listInstanceLayers(store.queries, nodeId)) {
    if (id === leavingId) continue;
    const vmPath = join(folders.path(id), "vm");
    const there = await Promise.all(disks.map((name) => host.files.exists(diskPath(vmPath, name))));
    if (!there.every(Boolean)) awaited.push(layers);
  }
  return awaited;
}

/** What each disk in an instance's folder stands on; one that is about to take a disk's place is one too. */
async function listDisks({ folders, snapshotFolders, host }: Services): Promise<StandingDisk[]> {
  const disks: StandingDisk[] = [];
  for (const instanceId of await folders.list()) {
    const vmPath = join(folders.path(instanceId), "vm");
    for (const name of await host.files.list(vmPath)) {
      if (!name.includes(".qcow2")) continue;
      disks.push({ below: await snapshotFolders.below(join(vmPath, name)) });
    }
  }
  return disks;
}

async function writeSizes({ store }: Services, seen: SeenLayers, snapshots: SnapshotRows): Promise<void> {
  const sizes = sizesOf({ ...seen, kept: new Set(snapshots.map(({ folder }) => folder)) });
  for (const { id, folder, ownBytes, sharedBytes } of snapshots) {
    const size = sizes.get(folder) ?? { ownBytes: 0, sharedBytes: 0 };
    if (size.ownBytes === ownBytes && size.sharedBytes === sharedBytes) continue;
    await writeSnapshotSizes(store.queries, id, size);
  }
}
