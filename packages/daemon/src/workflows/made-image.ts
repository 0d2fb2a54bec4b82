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
    z.object({ type: z.literal("snapshot"), snapshotId: z.string() }),
  ]),
});
export type ImageInput = z.infer<typeof ImageInput>;

/** What is known of an image once it is made, however that was done. */
export interface MadeContent {
  readonly image: Pick<ResolvedImage, "contentDigest" | "os" | "architecture" | "startConfig">;
  readonly contentBytes: number;
  /** The commit built, of a Git repository. */
  readonly commit: string | null;
}

/** What making an image of layers leaves in the operation. */
export interface MadeImage extends MadeContent {
  readonly image: ResolvedImage;
}

/** A step's result as the journal keeps it. */
export function toJournal(made: MadeContent): Json {
  return made as unknown as Json;
}
