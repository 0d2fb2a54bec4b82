import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { shortWrites } from "../../../../test/support/short-writes.ts";
import { createBlobCache } from "./blobs.ts";
import { digestOf } from "./testing/fake-registry.ts";

const { signal } = new AbortController();

test("a blob is whole on a disk that takes less at a time than it is given", async () => {
  const folder = await scratchDirectory("blb");
  const bytes = randomBytes(200_000);
  const blob = { digest: digestOf(bytes), size: bytes.length };
  const cache = createBlobCache(`${folder}/blobs`, `${folder}/tmp`);
  using _ = await shortWrites();
  await cache.put(blob, bytes, signal);
  expect(await readFile(cache.path(blob.digest))).toEqual(bytes);
});
