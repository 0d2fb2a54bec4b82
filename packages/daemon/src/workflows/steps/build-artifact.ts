import type { Step } from "../../operations/workflow.ts";
import { toJournal } from "../made-image.ts";
import type { Services } from "../services.ts";
import { madeBefore } from "./made-before.ts";

/** Makes the bootable file system; operations that need the same one share the work. */
export function buildArtifact({ images }: Services): Step {
  return {
    name: "build-artifact",
    async run(context) {
      const made = madeBefore(context, "resolve-reference", "build-from-dockerfile");
      const { contentBytes } = await images.buildArtifact(made.image, context);
      return { result: toJournal({ ...made, contentBytes }) };
    },
  };
}
