import { BerthError } from "@berth/api";
import { createOverlay } from "../../storage/qcow2.ts";
import { readImage } from "../../store/images.ts";
import { diskPath } from "../instance-paths.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Makes the instance's folder and its disks: the root disk is a copy-on-write layer over the image's artifact. */
export function createDisks(services: Services): InstanceStep {
  const { folders, host, images, store } = services;
  return {
    name: "create-disks",
    async run(context) {
      const instance = await targetInstance(services, context);
      const digest = (await readImage(store.queries, instance.imageId))?.contentDigest;
      const artifact = digest ? await images.findArtifact(digest) : undefined;
      if (!artifact) throw new BerthError("not_found", `The artifact of image ${instance.imageId} is gone.`);
      const { vmPath, user } = await folders.create(instance.id);
      for (const { name, sizeMib } of instance.spec.disks) {
        const request = { name, path: diskPath(vmPath, name), backingPath: artifact.path, sizeMib, user };
        await createOverlay(host, request, context.signal);
      }
      return undefined;
    },
    async undo(context) {
      await folders.remove(context.operation.target.id);
    },
  };
}
