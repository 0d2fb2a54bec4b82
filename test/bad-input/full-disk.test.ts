import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { diskOf } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";
import { expectFailed, expectProblem, expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";

const long = { wait: 60 } as const;
const mebibyte = 2 ** 20;
/** What the data folder's file system holds: room for the store and one small image, not for a large one. */
const diskMib = 40;
const largeMib = 30;

let registry: FakeRegistry;
let scratch: string;
let disk: string;
let dataDir: string;
let berthd: Berthd;

beforeAll(async () => {
  registry = await startFakeRegistry();
  registry.addImage("small", "latest", [writeTar([{ path: "f", content: "x" }])], { config: { Cmd: ["/f"] } });
  registry.addImage("large", "latest", [writeTar([{ path: "f", content: randomBytes(largeMib * mebibyte) }])]);
  scratch = await scratchDirectory("ful");
  disk = join(scratch, "disk");
  mkdirSync(disk);
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${diskMib}m,mode=0711`, "tmpfs", disk]);
  dataDir = join(disk, "data");
  const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host };
  berthd = await startBerthd({ dataDir, env });
  const { operation } = await pull("small");
  expect(operation.error).toBeNull();
});

afterAll(async () => {
  await berthd?.stop();
  execFileSync("umount", [disk]);
  await registry?.[Symbol.asyncDispose]();
});

const ballast = () => join(disk, "ballast");

/** Takes all the room that there is, or all but so much. */
function fill(butBytes = 0): void {
  const file = openSync(ballast(), "w");
  const block = Buffer.alloc(4096);
  try {
    for (;;) writeSync(file, block);
  } catch (error) {
    expect((error as NodeJS.ErrnoException).code).toBe("ENOSPC");
  } finally {
    closeSync(file);
  }
  if (butBytes > 0) execFileSync("truncate", ["--size", `-${butBytes}`, ballast()]);
}

const makeLarge = (mib: number) => execFileSync("mount", ["-o", `remount,size=${mib}m`, disk]);

const free = () => rmSync(ballast(), { force: true });

/** berthd has survived, nothing half-made is left, and with room again all goes well. */
afterEach(async () => {
  free();
  const { client } = berthd;
  await settled(client);
  for (const { id } of (await client.listInstances({ query: {} })).items)
    await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
  await audit(client, dataDir);
  const body = { image: `${registry.host}/small`, name: "after" };
  const { operation } = await client.createInstance({ query: long, body });
  expect(operation.error).toBeNull();
  const { operation: removal } = await client.deleteInstance({
    params: { instance: "after" },
    query: { ...long, force: true },
  });
  expect(removal.error).toBeNull();
  await audit(client, dataDir);
});

const pull = (repository: string) =>
  berthd.client.pullImage({ query: long, body: { reference: `${registry.host}/${repository}`, refresh: true } });

describe("a full disk", () => {
  it("ends a pull with disk_full", async () => {
    fill(20 * mebibyte);
    await expectFailed(pull("large"), "disk_full", /[Nn]o space/);
    expect((await berthd.client.listImages({ query: { reference: `${registry.host}/large` } })).items).toEqual([]);
  });

  // Before those that leave verified content there, which takes most of the room.
  it("ends an export, an upload and an import with disk_full, and leaves nothing of them", async () => {
    const { client } = berthd;
    const params = { instance: "web" };
    const { instance } = await client.createInstance({
      query: long,
      body: { image: `${registry.host}/small`, name: "web", start: false },
    });
    const path = join(dataDir, "instances", instance.id, "vm/root.qcow2");
    const content = join(scratch, "content");
    writeFileSync(content, randomBytes(8 * mebibyte));
    execFileSync("qemu-io", ["-f", "qcow2", "-c", `write -s ${content} 0 8M`, path]);

    fill(4 * mebibyte);
    await expectFailed(client.exportInstance({ params, query: long }), "disk_full", /[Nn]o space/);
    expect((await client.listArchives({ query: {} })).items).toEqual([]);
    free();
    const { archive } = await client.exportInstance({ params, query: long });
    const bytes = new Uint8Array(
      await new Response(await client.readArchive({ params: { archive: archive.id } })).arrayBuffer(),
    );
    await client.deleteArchive({ params: { archive: archive.id }, query: long });
    await client.deleteInstance({ params, query: long });

    const announced = { name: "web.berth", sizeBytes: bytes.length, beginning: "0".repeat(64) };
    const { id } = await client.createArchive({ body: announced });
    const sent = { archive: id };
    fill(4 * mebibyte);
    await expectRefused(client.createArchive({ body: announced }), "disk_full", "the node has");
    await expectRefused(client.writeArchive({ params: sent, body: bytes }), "disk_full", /[Nn]o space/);
    free();
    // What had room is there, and the rest follows.
    const { receivedBytes } = await client.getArchive({ params: sent });
    expect(receivedBytes).toBeGreaterThan(mebibyte);
    await client.writeArchive({ params: sent, body: bytes.subarray(receivedBytes) }, { fromByte: receivedBytes });

    const ask = () => client.importInstance({ params: sent, query: long, body: { start: false } });
    fill(4 * mebibyte);
    await expectFailed(ask(), "disk_full", /Its disks take \d+ MiB; the node has \d+ MiB free/);
    expect((await client.listInstances({ query: {} })).items).toEqual([]);
    free();
    expect((await ask()).operation.error).toBeNull();
    await client.deleteArchive({ params: sent, query: long });
  });

  it("ends a pull with disk_full as the image is unpacked", async () => {
    fill((largeMib + 5) * mebibyte);
    await expectFailed(pull("large"), "disk_full", /[Nn]o space/);
  });

  it("ends a build with disk_full", async () => {
    const path = join(scratch, "context");
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "Dockerfile"), "FROM scratch\nCOPY large /large\n");
    writeFileSync(join(path, "large"), randomBytes(largeMib * mebibyte));
    fill(20 * mebibyte);
    const body = { reference: "localhost/large", source: { type: "directory" as const, path } };
    await expectFailed(berthd.client.buildImage({ query: long, body }), "disk_full", /[Nn]o space/);
    expect((await berthd.client.listImages({ query: { reference: body.reference } })).items).toEqual([]);
  });

  it("ends a create with disk_full as its disk is made", async () => {
    fill(128 * 1024);
    const body = { image: `${registry.host}/small`, name: "web" };
    const error = await berthd.client.createInstance({ query: long, body }).then(
      ({ operation }) => operation.error,
      ({ problem }) => problem,
    );
    expectProblem(error, "disk_full", /[Nn]o space/);
    expect((await berthd.client.listInstances({ query: {} })).items).toEqual([]);
  });

  it("ends a promotion with disk_full, and leaves the snapshot and its instance as they are", async () => {
    const { client } = berthd;
    // A snapshot is not taken of what has no room to go on.
    makeLarge(4 * diskMib);
    const asked = { image: `${registry.host}/small`, name: "web", start: false };
    const { instance } = await client.createInstance({ query: long, body: asked });
    const disk = diskOf(dataDir, instance.id);
    disk.write(0, 0x11, (8 * mebibyte) / 4096);
    const { snapshot } = await client.createSnapshot({ query: long, body: { instance: "web", name: "point" } });
    const promote = () =>
      client.promoteSnapshot({ params: { snapshot: "point" }, query: long, body: { reference: "golden" } });
    fill(4 * mebibyte);
    await expectFailed(promote(), "disk_full", /[Nn]o space/);
    expect((await client.listImages({ query: { reference: "golden" } })).items).toEqual([]);
    expect(await client.getSnapshot({ params: { snapshot: "point" } })).toEqual({ ...snapshot, operationId: null });
    expect(disk.read(0)).toBe(0x11);
    free();
    await audit(client, dataDir);
    const { image, operation } = await promote();
    expect(operation.error).toBeNull();
    expect((await client.deleteImage({ params: { image: image.id }, query: long })).operation.error).toBeNull();
    await client.deleteInstance({ params: { instance: "web" }, query: { ...long, snapshots: true } });
    makeLarge(diskMib);
  });

  it("refuses a change that the store cannot write, and goes on to be read", async () => {
    fill();
    const body = { image: `${registry.host}/small` };
    // Of the store's own reserve some changes may still be made.
    const ask = async () => {
      for (;;) await berthd.client.createInstance({ body });
    };
    await expectRefused(ask(), "disk_full", /[Nn]o space/);
    expect((await berthd.client.listImages({ query: {} })).items.length).toBeGreaterThan(0);
  });

  it("that comes while an instance is made ends it with disk_full, or is waited out", async () => {
    const body = { image: `${registry.host}/small`, labels: { "berth.fake/start-block": "1000" } };
    const { operation } = await berthd.client.createInstance({ body });
    const params = { operation: operation.id };
    await eventually(async () => {
      const { steps } = await berthd.client.getOperation({ params });
      expect(steps.at(-1)?.name).toBe("start-machine");
    });
    fill();
    await berthd.client.waitOperation({ params, query: { timeout: 3 } });
    free();
    const ended = await berthd.client.waitOperation({ params, query: { timeout: 60 } });
    if (ended.status !== "succeeded") expectProblem(ended.error, "disk_full", /[Nn]o space/);
  });
});
