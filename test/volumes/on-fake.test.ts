import { join } from "node:path";
import type { Client } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { diskOf } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const long = { wait: 60 } as const;
const both = (sizeMib: number) => ["root", "volumes"].map((name) => ({ name, sizeMib }));

let registry: FakeRegistry;
let berthd: Berthd;
let client: Client;
let dataDir: string;

beforeAll(async () => {
  registry = await startFakeRegistry();
  const layers = [writeTar([{ path: "f", content: "x" }])];
  const config = { Cmd: ["/f"], Volumes: { "/data": {} } };
  registry.addImage("app", "latest", layers, { config });
  registry.addImage("app", "unknown", layers, { config: { ...config, Env: ["A=b"] } });
  registry.addImage("plain", "latest", layers, { config: { Cmd: ["/f"] } });
  dataDir = join(await scratchDirectory("vol"), "data");
  const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host };
  berthd = await startBerthd({ dataDir, env: { ...env, BERTH_TEMPLATES: "asked" } });
  client = berthd.client;
});
afterAll(async () => {
  await berthd?.stop();
  await registry?.[Symbol.asyncDispose]();
});

const { create, stop, start, snapshot, restore, launch, removeAll } = snapshotCalls(
  () => client,
  () => `${registry.host}/app`,
);
const params = { instance: "db" };
const volumesOf = (id: string) => diskOf(dataDir, id, "volumes");

afterEach(async () => {
  await removeAll();
  for (const { id } of (await client.listPools()).items) await client.deletePool({ params: { pool: id }, query: long });
  await settled(client);
  for (const { id } of (await client.listTemplates()).items)
    await client.deleteTemplate({ params: { template: id }, query: long });
  await settled(client);
  await audit(client, dataDir);
});

describe("an instance of an image with volumes", () => {
  it("has a disk for them, as large as its root disk, whether its image was here before or not", async () => {
    const unknown = await create("first", { image: `${registry.host}/app:unknown`, diskMib: 128 });
    expect(unknown.spec.disks).toEqual(both(128));
    expect((await create("second", { image: `${registry.host}/app:unknown` })).spec.disks).toEqual(both(1024));
    expect((await create("third", { image: `${registry.host}/plain` })).spec.disks).toHaveLength(1);
  });

  it("grows both with one number", async () => {
    await create("db");
    const { instance } = await client.changeInstance({ params, query: long, body: { diskMib: 2048 } });
    expect(instance).toMatchObject({ spec: { disks: both(2048) }, status: { pending: [] } });
  });

  it("has them in its snapshots, restored, and in what is launched from these", async () => {
    const { id } = await create("db", { start: false });
    volumesOf(id).write(0, 0x11);
    const { disks } = await snapshot("db", "one");
    expect(disks.map(({ name }) => name)).toEqual(["root", "volumes"]);
    volumesOf(id).write(0, 0x22);
    const copy = await launch("one", { name: "copy", start: false, diskMib: 2048 });
    expect(copy.spec.disks).toEqual(both(2048));
    expect(volumesOf(copy.id).read(0)).toBe(0x11);
    await restore("one", { discard: true });
    expect(volumesOf(id).read(0)).toBe(0x11);
  });

  it("has them in its children, in its memory's snapshots, and while it is suspended", async () => {
    const { id } = await create("db");
    volumesOf(id).write(0, 0x11);
    const { children } = await client.forkInstance({ params, query: long, body: { count: 1, name: "child" } });
    const [child] = children;
    expect(child?.spec.disks).toEqual(both(1024));
    expect(volumesOf(child?.id ?? "").read(0)).toBe(0x11);
    await snapshot("db", "one", { memory: true });
    await client.suspendInstance({ params, query: long });
    await start("db");
    expect((await client.getInstance({ params })).status).toMatchObject({ ready: true, start: { mode: "resumed" } });
    volumesOf(id).write(0, 0x22);
    await restore("one", { force: true, discard: true });
    expect(volumesOf(id).read(0)).toBe(0x11);
    await stop("db");
  });

  it("may begin from a template, and come from a pool", async () => {
    const warm = await create("warm", { warm: "require" });
    expect(warm.status.start?.mode).toBe("warm");
    expect((await client.listTemplates()).items.map(({ disks }) => disks)).toEqual([2]);
    const app = await create("app", { warm: "app" });
    expect(app).toMatchObject({ spec: { disks: both(1024) }, status: { start: { mode: "warm" } } });
    await client.createPool({ body: { name: "spare", image: `${registry.host}/app`, size: 1 } });
    await eventually(async () => expect((await client.getPool({ params: { pool: "spare" } })).ready).toBe(1));
    const claimed = await create("claimed", { diskMib: 2048 });
    expect(claimed).toMatchObject({ spec: { disks: both(2048) }, status: { ready: true, start: { mode: "pool" } } });
  });
});
