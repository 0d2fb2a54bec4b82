import { join } from "node:path";
import { expect, it } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { lastHolder, lockFolder } from "./lock.ts";
import { identifyProcess } from "./processes.ts";

const folder = await scratchDirectory("lock");

it("is held by one at a time and free again when released", async () => {
  const path = join(folder, "lock");
  const first = await lockFolder(path);
  expect(first).toBeDefined();
  expect(await lockFolder(path)).toBeUndefined();
  await first?.release();
  const second = await lockFolder(path);
  expect(second).toBeDefined();
  await second?.release();
});

it("says who took it last", async () => {
  const path = join(folder, "other");
  expect(await lastHolder(path)).toBeUndefined();
  const lock = await lockFolder(path);
  await lockFolder(path);
  expect(await lastHolder(path)).toEqual(identifyProcess(process.pid));
  await lock?.release();
});
