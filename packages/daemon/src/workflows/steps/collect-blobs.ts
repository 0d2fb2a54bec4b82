import type { Step } from "../../operations/workflow.ts";
import { listContentDigests } from "../../store/images.ts";
import { listOperations } from "../../store/operations.ts";
import type { Services } from "../services.ts";

/** Frees the blobs that no other image has. While images are being made it leaves them alone: the next delete frees them. */
export function collectBlobs({ images, store }: Services): Step {
  return {
    name: "collect-blobs",
    async run(context) {
      const { rows } = await listOperations(store.queries, { unfinished: true, limit: 500 });
      const making = rows.some(({ type }) => type === "image.pull" || type === "image.build");
      if (making) return undefined;
      const digests = await listContentDigests(store.queries, { butNot: context.operation.target.id });
      const inUse = await Promise.all(digests.map((digest) => images.describe(digest)));
      const freed = await images.collectBlobs(inUse.filter((image) => image !== undefined));
      context.log(`freed ${Math.round(freed / 2 ** 20)} MiB`);
      return undefined;
    },
  };
}
