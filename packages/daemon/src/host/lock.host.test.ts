import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { lockFolder } from "./lock.ts";

const folder = await mkdtemp(join(tmpdir(), "berth-lock-"));
afterAll(() => rm(folder, { recursive: true }));

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
