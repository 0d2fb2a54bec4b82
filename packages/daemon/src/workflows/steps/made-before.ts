import type { StepContext } from "../../operations/workflow.ts";
import type { MadeImage } from "../made-image.ts";

/** What an earlier step of the same operation left of the image. */
export function madeBefore(context: StepContext, ...steps: readonly string[]): MadeImage {
  for (const step of steps) {
    const result = context.journal.get(step)?.result;
    if (result) return result as unknown as MadeImage;
  }
  throw new Error(`none of ${steps.join(", ")} has left an image`);
}
