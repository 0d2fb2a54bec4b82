import { join } from "node:path";
import { BerthError } from "@berth/api";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import { startOperation } from "../operations/start.ts";
import type { StepContext } from "../operations/workflow.ts";
import { newImage } from "../store/contract.ts";
import { insertImage } from "../store/images.ts";
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

test("an image that was damaged on the disk keeps all blobs, and no other image from being deleted", async () => {
  const store = await openStore({ kind: "sqlite", path: join(await scratchDirectory("collect"), "berth.db") });
  const damaged = `sha256:${"d".repeat(64)}`;
  await insertImage(store.queries, {
    ...newImage(),
    source: { type: "registry", reference: "localhost/damaged:latest" },
    state: "ready",
    contentDigest: damaged,
    sizeBytes: 1,
  });
  let inUse: unknown = "not asked";
  const images: Partial<Services["images"]> = {
    describe: (digest) => Promise.reject(new BerthError("digest_mismatch", `${digest} was damaged.`)),
    async collectBlobs(findInUse) {
      inUse = await findInUse();
      return 0;
    },
  };
  const lines: string[] = [];
  const context = { operation: { target: { id: newId("image") } }, log: (line: string) => void lines.push(line) };
  await collectBlobs({ store, images } as unknown as Services).run(context as unknown as StepContext);
  expect(inUse).toBeUndefined();
  expect(lines[0]).toContain(`${damaged} was damaged`);
  await store.close();
});
