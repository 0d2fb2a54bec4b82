import type { Client } from "@berth/api";
import { afterAll, beforeAll, expect, it } from "vitest";
import { audit } from "../faults/audit.ts";
import { type AppNode, startAppNode } from "../support/app-node.ts";
import { diskOf, standsOn } from "../support/disks.ts";
import { expectFailed } from "../support/refusals.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const long = { wait: 60 } as const;
const mostLayers = 64;

let node: AppNode;
let image: string;
let dataDir: string;
let client: Client;

beforeAll(async () => {
  node = await startAppNode("limit", { BERTH_LOG_LEVEL: "error" });
  ({ client, dataDir, image } = node);
});

afterAll(() => node?.[Symbol.asyncDispose]());

const { create, snapshot, forget, removeAll } = snapshotCalls(
  () => client,
  () => image,
);

it("a disk stands on 64 files at most; once a snapshot is deleted, whichever it is, there is room for another one", async () => {
  const { id } = await create("web", { start: false });
  for (let round = 0; round < mostLayers; round += 1) {
    diskOf(dataDir, id).write(round % 4, round + 1);
    await snapshot("web", `s${round}`);
  }
  const one = { query: long, body: { instance: "web", name: "more" } };
  await expectFailed(client.createSnapshot(one), "too_many_snapshots", "64");
  // At once: it need not be waited for that files are merged.
  await forget("s20");
  await snapshot("web", "more");
  expect(standsOn(diskOf(dataDir, id).path)).toBe(mostLayers);
  expect(diskOf(dataDir, id).readFirst(4)).toEqual([61, 62, 63, 64]);
  await removeAll();
  await audit(client, dataDir);
});
