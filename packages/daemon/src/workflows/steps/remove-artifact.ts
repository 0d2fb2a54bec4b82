import type { Step } from "../../operations/workflow.ts";
import { hasContent, readImage } from "../../store/images.ts";
import type { Services } from "../services.ts";

/** Removes the image's artifact, unless another image has the same content. */
export function removeArtifact({ images, store }: Services): Step {
  return {
    name: "remove-artifact",
    async run(context) {
      const image = await readImage(store.queries, context.operation.target.id);
      if (!image?.contentDigest) return undefined;
      if (await hasContent(store.queries, image.contentDigest, { butNot: image.id })) return undefined;
      await images.removeArtifact(image.contentDigest);
      return undefined;
    },
  };
}
