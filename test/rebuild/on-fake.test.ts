import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Client, Instance, RebuildInstanceInput } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { parseQcow2Header } from "../../packages/daemon/src/storage/qcow2-header.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { diskOf } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const long = { wait: 60 } as const;
const params = { instance: "db" };

let registry: FakeRegistry;
let berthd: Berthd;
let client: Client;
let dataDir: string;

beforeAll(async () => {
  registry = await startFakeRegistry();
  const image = (tag: string, config: object) =>
    registry.addImage("db", tag, [writeTar([{ path: "f", content: tag }])], { config: { Cmd: ["/f"], ...config } });
  image("1", { Volumes: { "/data": {} } });
  image("2", { Volumes: { "/data": {} } });
  image("plain", {});
  dataDir = join(await scratchDirectory("rbd"), "data");
  const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host };
  berthd = await startBerthd({ dataDir, env: { ...env, BERTH_TEMPLATES: "asked" } });
  client = berthd.client;
});
afterAll(async () => {
  await berthd?.stop();
  await registry?.[Symbol.asyncDispose]();
});

const named = (tag: string) => `${registry.host}/db:${tag}`;
const { create, stop, start, snapshot, restore, removeAll } = snapshotCalls(
  () => client,
  () => named("1"),
);
const now = () => client.getInstance({ params });
const rebuild = (body: RebuildInstanceInput = {}, more: { queue?: boolean } = {}) =>
  client.rebuildInstance({ params, query: { ...long, ...more }, body });
const disk = ({ id }: Pick<Instance, "id">, name = "root") => diskOf(dataDir, id, name);

afterEach(async () => {
  await removeAll();
  await settled(client);
  for (const { id } of (await client.listTemplates()).items)
    await client.deleteTemplate({ params: { template: id }, query: long });
  await settled(client);
  await audit(client, dataDir);
});

describe("a rebuild", () => {
  it("makes the root disk of another image, and keeps volumes, ports, environment and name", async () => {
    const made = await create("db", { ports: [{ guestPort: 80 }], env: { A: "1" }, labels: { team: "a" } });
    disk(made).write(0, 0x11);
    disk(made, "volumes").write(0, 0x22);
    const { operation, kept, instance } = await rebuild({ image: named("2") });
    expect(operation.error).toBeNull();
    expect(disk(made).read(0)).toBe(0);
    expect(disk(made, "volumes").read(0)).toBe(0x22);
    expect(instance).toMatchObject({ id: made.id, name: "db", image: named("2"), labels: { team: "a" } });
    expect(instance.spec).toEqual(made.spec);
    expect(instance.status).toMatchObject({ phase: "running", ready: true, ports: made.status.ports });
    expect(instance.imageId).not.toBe(made.imageId);
    expect(kept).toMatchObject({ state: "ready", kind: "disk", image: named("1") });
    expect(kept?.disks.map(({ name }) => name)).toEqual(["root", "volumes"]);
  });

  it("is undone by restoring what was kept, and snapshots from before it are restored as ever", async () => {
    const made = await create("db", { start: false });
    disk(made).write(0, 0x11);
    disk(made, "volumes").write(0, 0x22);
    await snapshot("db", "before");
    disk(made).write(0, 0x12);
    const { kept, instance } = await rebuild({ image: named("2") });
    expect(instance.status.phase).toBe("stopped");
    disk(made, "volumes").write(0, 0x23);
    await restore(kept?.name ?? "", { discard: true });
    expect([disk(made).read(0), disk(made, "volumes").read(0), (await now()).image]).toEqual([0x12, 0x22, named("1")]);
    await rebuild({ image: named("2"), discard: true });
    await restore("before", { discard: true });
    expect([disk(made).read(0), disk(made, "volumes").read(0), (await now()).image]).toEqual([0x11, 0x22, named("1")]);
    await start("db");
  });

  it("of an image that has volumes gives an instance a disk for them, and a restore leaves that alone", async () => {
    const made = await create("db", { image: named("plain"), start: false });
    disk(made).write(0, 0x11);
    const { kept, instance } = await rebuild({ image: named("1") });
    expect(instance.spec.disks.map(({ name }) => name)).toEqual(["root", "volumes"]);
    await start("db");
    await stop("db");
    disk(made, "volumes").write(0, 0x22);
    await restore(kept?.name ?? "");
    expect([disk(made).read(0), disk(made, "volumes").read(0)]).toEqual([0x11, 0x22]);
    expect((await now()).image).toBe(named("plain"));
    await start("db");
    await stop("db");
    await rebuild({ image: named("2") });
    expect(disk(made, "volumes").read(0)).toBe(0x22);
  });

  it("without a name takes what the instance's own reference names by now", async () => {
    const made = await create("db", { image: named("plain") });
    registry.addImage("db", "plain", [writeTar([{ path: "f", content: "newer" }])], { config: { Cmd: ["/newer"] } });
    const { image } = await client.pullImage({ query: long, body: { reference: named("plain"), refresh: true } });
    const { instance, kept } = await rebuild({ discard: true });
    expect([instance.imageId, kept]).toEqual([image.id, null]);
    expect(instance.imageId).not.toBe(made.imageId);
    // Nothing stands on the former image any more.
    const { operation } = await client.deleteImage({ params: { image: made.imageId }, query: long });
    expect(operation.error).toBeNull();
  });

  it("whose image cannot be had leaves the instance running as it was, with nothing kept of it", async () => {
    const made = await create("db");
    disk(made).write(0, 0x11);
    const { instance } = await rebuild({ image: named("none") });
    await expectFailed(rebuild({ image: named("none") }), "image_not_found", "none");
    expect(instance).toMatchObject({ imageId: made.imageId, image: made.image, spec: made.spec });
    const { status } = await now();
    expect(status).toMatchObject({ phase: "running", ready: true, startedAt: made.status.startedAt });
    expect(disk(made).read(0)).toBe(0x11);
    expect((await client.listSnapshots({ query: {} })).items).toEqual([]);
  });

  it("that cannot be started again fails, and what was is kept", async () => {
    const made = await create("db");
    const labels = { "berth.fake/start-error": "host_program_failed" };
    await client.changeInstance({ params, query: long, body: { labels } });
    const { operation, kept } = await rebuild({ image: named("2") });
    expect(operation.status).toBe("failed");
    await eventually(async () =>
      expect(await now()).toMatchObject({ image: named("2"), status: { phase: "stopped", ready: false } }),
    );
    expect(kept?.state).toBe("ready");
    await restore(kept?.name ?? "", { discard: true });
    expect((await now()).imageId).toBe(made.imageId);
  });

  it("is refused for one that sleeps unless forced, of what is no image, and while it would hold what is deleted", async () => {
    const made = await create("db");
    await client.suspendInstance({ params, query: long });
    await expectRefused(rebuild(), "instance_suspended", "memory");
    disk(made).write(0, 0x11);
    const { instance } = await rebuild({ force: true });
    expect(instance.status).toMatchObject({ phase: "stopped", memoryBytes: null });
    expect(disk(made).read(0)).toBe(0);
    await expectRefused(rebuild({ image: "img-0123456789abcdef0" }), "not_found", "img-0123456789abcdef0");
    // Another operation holds the instance, and the rebuild waits for its turn with the image in its hand.
    await client.changeInstance({ params, query: long, body: { labels: { "berth.fake/start-block": "1500" } } });
    const { operation: holder } = await client.startInstance({ params });
    const waiting = await client.rebuildInstance({ params, query: { queue: true }, body: { image: named("plain") } });
    const [plain] = (await client.listImages({ query: { reference: named("plain") } })).items;
    const deleting = client.deleteImage({ params: { image: plain?.id ?? "" } });
    await expectRefused(deleting, "image_in_use", "db");
    await client.waitForOperation(holder.id);
    expect((await client.waitForOperation(waiting.operation.id)).error).toBeNull();
  });

  it("begins from a template of its new image where there is one", async () => {
    await create("other", { image: named("2"), warm: "require" });
    const made = await create("db", { warm: "require", diskMib: 2048 });
    const { instance } = await rebuild({ image: named("2") });
    expect(instance).toMatchObject({ spec: { warm: "auto" }, status: { ready: true, start: { mode: "warm" } } });
    const head = readFileSync(disk(made).path).subarray(0, 65_536);
    expect(parseQcow2Header(head)).toMatchObject({
      sizeBytes: 2 ** 31,
      backingPath: expect.stringContaining("artifacts"),
    });
  });

  it("brings back an artifact that was lost meanwhile", async () => {
    await create("db");
    await create("other", { image: named("2"), start: false });
    rmSync(join(dataDir, "artifacts"), { recursive: true });
    // No snapshot was ever taken in such a data folder.
    rmSync(join(dataDir, "snapshots"), { recursive: true, force: true });
    const { operation } = await rebuild({ image: named("2"), discard: true });
    expect(operation.error).toBeNull();
    expect(operation.steps.map(({ name }) => name)).toContain("realise-image");
    await client.deleteInstance({ params: { instance: "other" }, query: { ...long, force: true } });
  });
});
