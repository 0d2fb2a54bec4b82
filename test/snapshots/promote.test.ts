import { readdirSync, statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { diskOf, frozenFiles } from "../support/disks.ts";
import { storeSettings } from "../support/postgres.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const query = { wait: 60 } as const;
const golden = "golden:1";
const config = {
  Entrypoint: ["/f"],
  Cmd: ["serve"],
  Env: ["A=1"],
  User: "7:8",
  WorkingDir: "/srv",
  Labels: { b: "c" },
};

let registry: FakeRegistry;

beforeAll(async () => {
  registry = await startFakeRegistry();
  registry.addImage("app", "latest", [writeTar([{ path: "f", content: "x" }])], { config });
});

afterAll(() => registry?.[Symbol.asyncDispose]());

describe.each(["sqlite", "postgres"] as const)("with %s, a promoted snapshot", (kind) => {
  let dataDir: string;
  let berthd: Berthd;
  let client: Client;

  beforeAll(async () => {
    const store = await storeSettings(kind);
    const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host, ...store };
    dataDir = join(await scratchDirectory("prom"), "data");
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
  });

  afterAll(() => berthd?.stop());

  let from: string;
  const { create, snapshot, removeAll } = snapshotCalls(
    () => client,
    () => from,
  );

  afterEach(async () => {
    await removeAll();
    for (const { id } of (await client.listImages({ query: {} })).items)
      expect((await client.deleteImage({ params: { image: id }, query })).operation.error).toBeNull();
    await audit(client, dataDir);
    expect(readdirSync(join(dataDir, "artifacts"))).toEqual([]);
  });

  const promote = (name: string, reference = golden) =>
    client.promoteSnapshot({ params: { snapshot: name }, query, body: { reference } });
  const promoted = async (name: string, reference = golden) => {
    const { operation, image } = await promote(name, reference);
    expect(operation.error).toBeNull();
    return image;
  };
  /** An instance that is off, with something on its disk. */
  const written = async (byte: number) => {
    from = `${registry.host}/app`;
    const made = await create("web", { start: false, env: { SECRET: "x" }, command: ["other"] });
    diskOf(dataDir, made.id).write(0, byte);
    return made;
  };

  it("is an image as any other, started as the one it came from, and needs nothing of what it came from", async () => {
    const { id, imageId } = await written(0x11);
    await snapshot("web", "one");
    diskOf(dataDir, id).write(0, 0x22);
    const {
      startConfig,
      os,
      architecture,
      contentDigest: digest,
    } = await client.getImage({ params: { image: imageId } });
    const image = await promoted("one");
    expect(image).toMatchObject({
      references: ["docker.io/library/golden:1"],
      source: { type: "snapshot", snapshot: { name: "one" }, instance: { id, name: "web" } },
      ...{ state: "ready", kind: "rootfs", firmware: "kernel", startConfig, os, architecture },
    });
    expect(startConfig).toMatchObject({ entrypoint: ["/f"], cmd: ["serve"], env: ["A=1"], user: "7:8" });
    expect(image.contentDigest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(image.contentDigest).not.toBe(digest);
    expect(image.sizeBytes).toBeGreaterThan(0);
    expect(image.sizeBytes).toBeLessThan(512 * 2 ** 20);
    expect(statSync(join(dataDir, "artifacts")).mode & 0o777).toBe(0o711);
    await removeAll();
    expect((await client.deleteImage({ params: { image: imageId }, query })).operation.error).toBeNull();

    from = golden;
    const copies = [await create("two"), await create("three", { diskMib: 2048 })];
    for (const copy of copies) {
      expect(copy).toMatchObject({ status: { phase: "running", ready: true }, spec: { env: {}, command: null } });
      await client.stopInstance({ params: { instance: copy.id }, query });
      expect(diskOf(dataDir, copy.id).read(0)).toBe(0x11);
    }
    diskOf(dataDir, copies[0]?.id ?? "").write(0, 0x33);
    expect(diskOf(dataDir, copies[1]?.id ?? "").read(0)).toBe(0x11);
    await expectRefused(client.deleteImage({ params: { image: image.id }, query }), "image_in_use", "golden");
    // It can be snapshotted and promoted in its turn.
    await snapshot("two", "again");
    expect((await promoted("again", "golden:2")).startConfig).toEqual(startConfig);
  });

  it("becomes templates that its instances are cloned from", async () => {
    await written(0x11);
    await snapshot("web", "one");
    await promoted("one");
    from = golden;
    const warm = await create("warm", { warm: "require" });
    expect(warm.status.start).toMatchObject({ mode: "warm" });
    for (const { id } of (await client.listTemplates({ query: {} })).items)
      await client.deleteTemplate({ params: { template: id }, query });
  });

  it("has the content it has: twice the same is one file, which goes with the last image of it", async () => {
    const { id } = await written(0x11);
    await snapshot("web", "one");
    const [first, second] = [await promoted("one"), await promoted("one", "golden:2")];
    diskOf(dataDir, id).write(0, 0x22);
    await snapshot("web", "two");
    const other = await promoted("two", "golden:3");
    expect(second.contentDigest).toBe(first.contentDigest);
    expect(other.contentDigest).not.toBe(first.contentDigest);
    const disks = () => readdirSync(join(dataDir, "artifacts")).filter((name) => name.endsWith("-disk.ext4"));
    expect(disks()).toHaveLength(2);
    await client.deleteImage({ params: { image: first.id }, query });
    expect(disks()).toHaveLength(2);
    await client.deleteImage({ params: { image: second.id }, query });
    expect(disks()).toEqual([`${other.contentDigest?.slice("sha256:".length)}-disk.ext4`]);
  });

  it("takes its reference from what had it, and leaves that in peace when it fails", async () => {
    await written(0x11);
    await snapshot("web", "one");
    const image = await promoted("one", `${registry.host}/app`);
    const { items } = await client.listImages({ query: { reference: `${registry.host}/app` } });
    expect(items.map(({ id }) => id)).toEqual([image.id]);
    const [file] = frozenFiles(dataDir);
    truncateSync(file ?? "", statSync(file ?? "").size - 4096);
    await expectFailed(promote("one", `${registry.host}/app`), "snapshot_damaged", "checksum");
    const after = await client.listImages({ query: { reference: `${registry.host}/app` } });
    expect(after.items.map(({ id }) => id)).toEqual([image.id]);
  });

  it("cannot be what holds no file system, is not there, or has no name", async () => {
    const { id } = await written(0x11);
    // Over the whole beginning of it, superblocks included.
    diskOf(dataDir, id).write(-100_000, 0, 90_000);
    await snapshot("web", "one");
    await expectFailed(promote("one"), "snapshot_damaged", "no file system");
    expect((await client.listImages({ query: { reference: golden } })).items).toEqual([]);
    expect(readdirSync(join(dataDir, "artifacts")).filter((name) => name.includes("half"))).toEqual([]);
    await expectRefused(promote("none"), "not_found", "none");
    await expectRefused(promote("one", "No Such:Name"), "invalid_reference", "No Such");
  });
});
