import type { Step } from "../../operations/workflow.ts";
import { hasContent } from "../../store/images.ts";
import { ImageInput, toJournal } from "../made-image.ts";
import type { Services } from "../services.ts";
import { madeBefore } from "./made-before.ts";

/** Makes the bootable file system; operations that need the same one share the work. */
export function buildArtifact({ images, store }: Services): Step {
  return {
    name: "build-artifact",
    async run(context) {
      const made = madeBefore(context, "resolve-reference", "build-from-dockerfile");
      const { reference, source } = ImageInput.parse(context.operation.input);
      const { contentBytes } = await images.buildArtifact(
        made.image,
        context,
        source.type === "registry" ? reference : undefined,
      );
      return { result: toJournal({ ...made, contentBytes }) };
    },
    async undo(context) {
      const { image } = madeBefore(context, "resolve-reference", "build-from-dockerfile");
      const shared = await hasContent(store.queries, image.contentDigest, { butNot: context.operation.target.id });
      // Whoever makes the same image at this moment makes it anew when it is needed.
      if (!shared) await images.removeArtifact(image.contentDigest);
    },
  };
}
