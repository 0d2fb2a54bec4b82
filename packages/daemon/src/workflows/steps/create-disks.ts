import { BerthError, type Instance } from "@berth/api";
import { volumesDisk } from "../../core/volumes.ts";
import { createOverlay, type OverlayRequest } from "../../storage/qcow2.ts";
import { createVolumesDisk } from "../../storage/volumes-disk.ts";
import { readImage } from "../../store/images.ts";
import { readLayers, readSavedMemory } from "../../store/instances.ts";
import { findTemplate } from "../../store/templates.ts";
import { collectLayers } from "../collect-layers.ts";
import { diskPath } from "../instance-paths.ts";
import type { Services } from "../services.ts";
import { requireSound } from "../sound-layers.ts";
import { templatePlace } from "../template-place.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/**
 * Makes the instance's folder and its disks: each is a copy-on-write layer, over the image's artifact or over a snapshot's frozen file, or a copy of what a
 * template has of such a layer. That of the volumes is empty at first: its guest fills it.
 */
export function createDisks(services: Services): InstanceStep {
  const { folders, host, store } = services;
  return {
    name: "create-disks",
    async run(context) {
      const instance = await targetInstance(services, context);
      const layers = await readLayers(store.queries, instance.id);
      if (layers) {
        const disks = instance.spec.disks.map(({ name }) => name);
        const memory = (await readSavedMemory(store.queries, instance.id)) !== null;
        await requireSound(services, { folder: layers, disks, memory }, context.signal);
      }
      const from = instance.spec.warm === "app" && !layers ? await templateOf(services, instance) : undefined;
      const below = layers ? overLayers(services, layers) : await overArtifact(services, instance.imageId);
      const { vmPath, user } = await folders.create(instance.id);
      for (const { name, sizeMib } of instance.spec.disks) {
        if (from) {
          await services.templates.copyDisk(from, name, { path: diskPath(vmPath, name), user }, context.signal);
          continue;
        }
        const request = { name, path: diskPath(vmPath, name), sizeMib, user };
        // That of a snapshot's volumes has them.
        if (name === volumesDisk && !layers) await createVolumesDisk(host, request, context.signal);
        else await createOverlay(host, { ...request, ...below(name) }, context.signal);
      }
      return undefined;
    },
    async undo(context) {
      const { id } = context.operation.target;
      await folders.remove(id);
      await collectLayers(services, id);
    },
  };
}

/** The template whose disks the instance's are copies of. */
async function templateOf(services: Services, instance: Instance): Promise<string> {
  const { queries } = services.store;
  const digest = (await readImage(queries, instance.imageId))?.contentDigest;
  const place = digest ? await templatePlace(services, instance, digest) : undefined;
  const template = place && (await findTemplate(queries, place))?.template;
  if (template?.state !== "ready") throw new BerthError("template_failed", "Its template was deleted meanwhile.");
  return template.id;
}

/** What a disk of this name lies over. */
type Below = (disk: string) => Pick<OverlayRequest, "backingPath" | "backingFormat">;

function overLayers({ snapshotFolders }: Services, folder: string): Below {
  return (disk) => ({ backingPath: snapshotFolders.layerPath({ folder, disk }), backingFormat: "qcow2" });
}

async function overArtifact({ images, store }: Services, imageId: string): Promise<Below> {
  const digest = (await readImage(store.queries, imageId))?.contentDigest;
  const artifact = digest ? await images.findArtifact(digest) : undefined;
  if (!artifact) throw new BerthError("not_found", `The artifact of image ${imageId} is gone.`);
  return () => ({ backingPath: artifact.path });
}
