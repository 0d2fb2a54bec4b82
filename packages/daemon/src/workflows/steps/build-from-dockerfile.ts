import { canonicalReference } from "../../images/reference.ts";
import type { Step } from "../../operations/workflow.ts";
import { findImage } from "../../store/images.ts";
import { ImageInput, toJournal } from "../made-image.ts";
import type { Services } from "../services.ts";

/** Builds a Dockerfile, of a folder on the node or of a Git repository checked out for the occasion. Like a launch, it builds upon what a reference names in its project, when that is here. */
export function buildFromDockerfile({ images, store }: Services): Step {
  return {
    name: "build-from-dockerfile",
    async run(context) {
      const { project, input } = context.operation;
      const { source } = ImageInput.parse(input);
      if (source.type === "registry" || source.type === "snapshot")
        throw new Error(`a ${source.type} has no Dockerfile`);
      const { dockerfile, buildArgs } = source;
      const build = async (directory: string) =>
        await images.build(
          { directory, dockerfile, buildArgs },
          async (reference) =>
            (await findImage(store.queries, project, canonicalReference(reference)))?.contentDigest ?? undefined,
          context,
        );
      if (source.type === "directory")
        return { result: toJournal({ image: await build(source.path), contentBytes: 0, commit: null }) };
      await using checkout = await images.checkout(source, context);
      context.log(`${source.url} is at ${checkout.commit}`);
      return {
        result: toJournal({ image: await build(checkout.directory), contentBytes: 0, commit: checkout.commit }),
      };
    },
  };
}
