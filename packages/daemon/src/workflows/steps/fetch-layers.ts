import type { Step } from "../../operations/workflow.ts";
import { ImageInput } from "../made-image.ts";
import type { Services } from "../services.ts";
import { madeBefore } from "./made-before.ts";

/** Brings every layer to the blob cache. */
export function fetchLayers({ images }: Services): Step {
  return {
    name: "fetch-layers",
    async run(context) {
      const { image } = madeBefore(context, "resolve-reference");
      await images.fetchBlobs(image, ImageInput.parse(context.operation.input).reference, context);
      return undefined;
    },
  };
}
