import { BerthError, type Instance } from "@berth/api";
import { volumesDisk, withVolumes } from "../core/volumes.ts";
import type { StepContext } from "../operations/workflow.ts";
import type { DiskToSwitch } from "../storage/switch-disks.ts";
import { readImage } from "../store/images.ts";
import type { InstanceSwitch } from "./disk-switch.ts";
import { InstanceInput } from "./instance-input.ts";
import { diskPath, nextDiskPath } from "./instance-paths.ts";
import type { Services } from "./services.ts";
import { requireSnapshot, type StoredSnapshot } from "./snapshot-record.ts";
import { targetInstance } from "./steps/step.ts";

/** What a rebuild works with. */
export interface RebuildParts extends InstanceSwitch {
  readonly instance: Instance;
  readonly vmPath: string;
  /** The bootable file of the image that the root disk comes from; undefined when that is gone. */
  readonly artifactPath: string | undefined;
  readonly imageId: string;
  /** What the instance's image is called from now on. */
  readonly reference: string;
  /** The disks of its spec from now on: with one for volumes, when the image has any and the instance has no such disk yet. */
  readonly spec: Instance["spec"]["disks"];
  /** Where its present disks are kept; undefined when the root disk goes. */
  readonly kept: StoredSnapshot | undefined;
}

/**
 * Reads all that an operation says about its rebuild. The root disk goes on over the image's artifact; that of the volumes goes on over itself when what was is kept, and else is not
 * touched.
 */
export async function rebuildParts(services: Services, context: StepContext): Promise<RebuildParts> {
  const { folders, images, snapshotFolders, store } = services;
  const instance = await targetInstance(services, context);
  const { rebuild } = InstanceInput.parse(context.operation.input);
  if (!rebuild) throw new BerthError("internal", "The operation does not say what to rebuild.");
  const image = await readImage(store.queries, rebuild.imageId);
  const artifact = image?.contentDigest ? await images.findArtifact(image.contentDigest) : undefined;
  const kept = rebuild.keptId === null ? undefined : await requireSnapshot(services, rebuild.keptId);
  const found = await folders.find(instance.id);
  if (!found) throw new BerthError("disk_missing", "Its folder is gone from the node's data folder.");
  const { vmPath, user } = found;
  const disks = instance.spec.disks.flatMap(({ name, sizeMib }): DiskToSwitch[] => {
    const frozenPath = kept ? snapshotFolders.layerPath({ folder: kept.folder, disk: name }) : null;
    const isVolumes = name === volumesDisk;
    const basePath = isVolumes ? frozenPath : (artifact?.path ?? "");
    if (basePath === null) return [];
    const place = { path: diskPath(vmPath, name), nextPath: nextDiskPath(vmPath, name, context.operation.id) };
    return [{ name, ...place, frozenPath, basePath, baseFormat: isVolumes ? "qcow2" : "raw", sizeMib }];
  });
  const spec = withVolumes(instance.spec.disks, image?.startConfig ?? null);
  const { imageId, reference } = rebuild;
  return { instance, vmPath, artifactPath: artifact?.path, imageId, reference, spec, kept, disks, user };
}
