import { BerthError } from "@berth/api";
import { readImage } from "../../store/images.ts";
import { imageWanted } from "../instance-input.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Makes the image's artifact again where it is missing: from the blob cache, or from where the image came from. */
export function realiseImage(services: Services): InstanceStep {
  const { images, store } = services;
  return {
    name: "realise-image",
    async run(context) {
      const instance = await targetInstance(services, context);
      const imageId = imageWanted(context.operation, instance);
      const image = await readImage(store.queries, imageId);
      if (!image?.contentDigest) throw new BerthError("not_found", `Image ${imageId} is gone.`);
      const resolved = await images.describe(image.contentDigest);
      if (!resolved) {
        throw new BerthError(
          "image_not_found",
          "Its content is gone from the blob cache; pull, build or promote the image again.",
        );
      }
      const reference = image.source.type === "registry" ? image.source.reference : undefined;
      if (reference !== undefined) await images.fetchBlobs(resolved, reference, context);
      await images.buildArtifact(resolved, context, reference);
      return undefined;
    },
  };
}
