import type { ResolvedImage } from "../../images/images.ts";
import type { Step } from "../../operations/workflow.ts";
import { listContentDigests } from "../../store/images.ts";
import { isUnfinished } from "../../store/operations.ts";
import type { Services } from "../services.ts";

/** Frees the blobs that no other image has. While images are being made it leaves them alone: the next delete frees them. */
export function collectBlobs({ images, store }: Services): Step {
  return {
    name: "collect-blobs",
    async run(context) {
      const freed = await images.collectBlobs(async (): Promise<readonly ResolvedImage[] | undefined> => {
        // First: whoever makes an image has its operation before the first blob, and until its row has the digest.
        if (await isUnfinished(store.queries, ["image.pull", "image.build"])) return undefined;
        const digests = await listContentDigests(store.queries, { butNot: context.operation.target.id });
        const inUse = await Promise.all(digests.map((digest) => images.describe(digest)));
        return inUse.filter((image) => image !== undefined);
      });
      context.log(`freed ${Math.round(freed / 2 ** 20)} MiB`);
      return undefined;
    },
  };
}
