import type { ResolvedImage } from "../../images/images.ts";
import type { Step } from "../../operations/workflow.ts";
import { listContentDigests } from "../../store/images.ts";
import { isUnfinished } from "../../store/operations.ts";
import type { Services } from "../services.ts";

/** Frees the blobs that no other image has. While images are being made, or one cannot be read, it leaves all alone: a later delete frees them. */
export function collectBlobs({ images, store }: Services): Step {
  return {
    name: "collect-blobs",
    async run(context) {
      const freed = await images.collectBlobs(async (): Promise<readonly ResolvedImage[] | undefined> => {
        // First: whoever makes an image has its operation before the first blob, and until its row has the digest.
        if (await isUnfinished(store.queries, ["image.pull", "image.build"])) return undefined;
        const digests = await listContentDigests(store.queries, { butNot: context.operation.target.id });
        const inUse: ResolvedImage[] = [];
        for (const digest of digests) {
          try {
            const image = await images.describe(digest);
            if (image) inUse.push(image);
          } catch (error) {
            context.log(`frees nothing, for what ${digest} has is not known: ${(error as Error).message}`);
            return undefined;
          }
        }
        return inUse;
      });
      context.log(`freed ${Math.round(freed / 2 ** 20)} MiB`);
      return undefined;
    },
  };
}
