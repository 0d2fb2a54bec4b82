import type { Step } from "../../operations/workflow.ts";
import { hasContent } from "../../store/images.ts";
import { toJournal } from "../made-image.ts";
import type { Services } from "../services.ts";
import { madeBefore } from "./made-before.ts";

/** Makes the copied disk the artifact of its content, unless that is there already. */
export function keepDisk({ images, store }: Services): Step {
  return {
    name: "keep-disk",
    async run(context) {
      const made = madeBefore(context, "copy-disk");
      await images.keepDisk(context.operation.id, made.image.contentDigest, made.contentBytes);
      return { result: toJournal(made) };
    },
    async undo(context) {
      const { contentDigest } = madeBefore(context, "copy-disk").image;
      if (await hasContent(store.queries, contentDigest, { butNot: context.operation.target.id })) return;
      await images.removeArtifact(contentDigest);
    },
  };
}
