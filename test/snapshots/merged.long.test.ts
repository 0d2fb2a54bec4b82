import { join } from "node:path";
import type { Client } from "@berth/api";
import { afterAll, beforeAll, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { diskOf, standsOn } from "../support/disks.ts";
import { expectFailed } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const long = { wait: 60 } as const;
const mostLayers = 64;

let registry: FakeRegistry;
let image: string;
let dataDir: string;
let berthd: Berthd;
let client: Client;

beforeAll(async () => {
  registry = await startFakeRegistry();
  registry.addImage("app", "latest", [writeTar([{ path: "f", content: "x" }])], { config: { Cmd: ["/f"] } });
  image = `${registry.host}/app`;
  dataDir = join(await scratchDirectory("limit"), "data");
  const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "error", BERTH_ALLOW_HOSTS: registry.host };
  berthd = await startBerthd({ dataDir, env });
  client = berthd.client;
});

afterAll(async () => {
  await berthd?.stop();
  await registry?.[Symbol.asyncDispose]();
});

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
