import type { Step } from "../../operations/workflow.ts";
import { ImageInput, toJournal } from "../made-image.ts";
import type { Services } from "../services.ts";

/** Builds a Dockerfile, of a folder on the node or of a Git repository checked out for the occasion. */
export function buildFromDockerfile({ images }: Services): Step {
  return {
    name: "build-from-dockerfile",
    async run(context) {
      const { source } = ImageInput.parse(context.operation.input);
      if (source.type === "registry" || source.type === "snapshot")
        throw new Error(`a ${source.type} has no Dockerfile`);
      const { dockerfile, buildArgs } = source;
      if (source.type === "directory") {
        const image = await images.build({ directory: source.path, dockerfile, buildArgs }, context);
        return { result: toJournal({ image, contentBytes: 0, commit: null }) };
      }
      await using checkout = await images.checkout(source, context);
      const { directory, commit } = checkout;
      context.log(`${source.url} is at ${commit}`);
      const image = await images.build({ directory, dockerfile, buildArgs }, context);
      return { result: toJournal({ image, contentBytes: 0, commit }) };
    },
  };
}
