import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import { startOperation } from "../operations/start.ts";
import type { StepContext } from "../operations/workflow.ts";
import { openStore } from "../store/store.ts";
import type { Services } from "./services.ts";
import { collectBlobs } from "./steps/collect-blobs.ts";

test("while an image is being made nothing is known to be useless, however much else goes on", async () => {
  const store = await openStore({ kind: "sqlite", path: join(await scratchDirectory("collect"), "berth.db") });
  let inUse: unknown;
  const images: Partial<Services["images"]> = {
    async collectBlobs(findInUse) {
      inUse = await findInUse();
      return 0;
    },
  };
  const collect = collectBlobs({ store, images } as unknown as Services);
  const context = { operation: { target: { id: newId("image") } }, log: () => undefined } as unknown as StepContext;
  const begin = (type: string) =>
    store.transaction((tx) =>
      startOperation(tx, {
        type,
        project: "default",
        target: { kind: "image", id: newId("image"), name: "x" },
        claims: [],
        input: {},
        nodeId: null,
        requestedBy: newId("token"),
      }),
    );
  await collect.run(context);
  expect(inUse).toEqual([]);
  await begin("image.pull");
  for (let other = 0; other < 510; other += 1) await begin("instance.stop");
  await collect.run(context);
  expect(inUse).toBeUndefined();
  await store.close();
});
