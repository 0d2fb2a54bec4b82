import { BuildImage } from "@berth/api";
import { z } from "zod";
import type { ResolvedImage } from "../images/images.ts";
import type { Json } from "../operations/workflow.ts";

const fromDockerfile = BuildImage.pick({ dockerfile: true, buildArgs: true }).shape;
const [directory, git] = BuildImage.shape.source.options;

/** What an image is made from: a full reference, and where its content is. */
export const ImageInput = z.object({
  reference: z.string(),
  source: z.discriminatedUnion("type", [
    z.object({ type: z.literal("registry") }),
    directory.extend(fromDockerfile),
    git.extend(fromDockerfile),
  ]),
});
export type ImageInput = z.infer<typeof ImageInput>;

/** What making an image leaves in the operation. */
export interface MadeImage {
  readonly image: ResolvedImage;
  readonly contentBytes: number;
  /** The commit built, of a Git repository. */
  readonly commit: string | null;
}

/** A step's result as the journal keeps it. */
export function toJournal(made: MadeImage): Json {
  return made as unknown as Json;
}
