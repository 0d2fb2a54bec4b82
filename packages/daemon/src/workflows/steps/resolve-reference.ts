import type { Step } from "../../operations/workflow.ts";
import { ImageInput, toJournal } from "../made-image.ts";
import type { Services } from "../services.ts";

/** Asks the registry what the reference is now. */
export function resolveReference({ images }: Services): Step {
  return {
    name: "resolve-reference",
    async run(context) {
      const { reference } = ImageInput.parse(context.operation.input);
      const image = await images.resolve(reference, context);
      context.log(`${reference} is ${image.contentDigest}, ${image.layers.length} layers`);
      return { result: toJournal({ image, contentBytes: 0, commit: null }) };
    },
  };
}
