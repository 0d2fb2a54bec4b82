import { BerthError, type Instance } from "@berth/api";
import { requireMemoryImage, shapeOf } from "../drivers/memory-image.ts";
import type { Services } from "./services.ts";

/** Rejects with `memory_unusable` when an instance's machine, as it would be started now, cannot go on from the memory in a folder of frozen files. */
export async function requireFittingMemory(
  { host, kit, snapshotFolders, ...services }: Services,
  { location, spec }: Instance,
  folder: string,
): Promise<void> {
  const build = await services.driver(location).memoryBuild?.({ kit: kit ?? null });
  if (build === undefined) throw new BerthError("memory_unusable", `${location} goes on from no memory.`);
  const { cpus, memoryMib, disks, interfaces } = spec;
  const shape = shapeOf({ cpus, memoryMib, disks, nics: interfaces }, build);
  await requireMemoryImage(host.files, snapshotFolders.memoryPath(folder), shape);
}
