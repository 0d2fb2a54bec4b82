import { closeSync, existsSync, openSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Client, Instance } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { audit } from "../faults/audit.ts";
import { type AppNode, startAppNode } from "../support/app-node.ts";
import { diskOf } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";
import { guestNote } from "../support/guest-note.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const long = { wait: 60 } as const;

let node: AppNode;
let image: string;
let dataDir: string;
let client: Client;

beforeAll(async () => {
  node = await startAppNode("snr", { BERTH_READY_TIMEOUT: "2" });
  ({ client, dataDir, image } = node);
});

afterAll(() => node?.[Symbol.asyncDispose]());

const { create, stop, snapshot, restore, launch, remove, forget, removeAll } = snapshotCalls(
  () => client,
  () => image,
);

afterEach(async () => {
  await removeAll();
  await audit(client, dataDir);
  expect(readdirSync(join(dataDir, "snapshots"))).toEqual([]);
});

const get = (name: string) => client.getInstance({ params: { instance: name } });
const { read, write } = guestNote(() => client);

describe("a snapshot of a running instance", () => {
  it("keeps its disk of one moment, frozen, while it runs on", async () => {
    const { id, status } = await create("web");
    const disk = diskOf(dataDir, id);
    disk.write(0, 0x11);
    expect(await snapshot("web", "one")).toMatchObject({ kind: "disk", consistency: "frozen", state: "ready" });
    disk.write(0, 0x22);
    expect(await snapshot("web", "two")).toMatchObject({ consistency: "frozen" });
    disk.write(0, 0x33);
    expect((await get("web")).status).toMatchObject({ phase: "running", startedAt: status.startedAt, ready: true });
    expect(diskOf(dataDir, (await launch("one", { start: false })).id).read(0)).toBe(0x11);
    await forget("one");
    await restore("two", { force: true, discard: true });
    expect(disk.read(0)).toBe(0x22);
  });

  it("whose guest cannot freeze is taken as after a power cut only when asked so", async () => {
    const body = { image, name: "web", env: { BERTH_FAKE_SILENT: "true" } };
    await expectFailed(client.createInstance({ query: long, body }), "not_ready_in_time", "said nothing");
    const { id } = await get("web");
    diskOf(dataDir, id).write(0, 0x11);
    const asked = { instance: "web", name: "one" };
    await expectFailed(client.createSnapshot({ query: long, body: asked }), "guest_unreachable", "did not answer");
    expect(diskOf(dataDir, id).read(0)).toBe(0x11);
    expect(readdirSync(join(dataDir, "snapshots"))).toEqual([]);
    expect(await snapshot("web", "one", { crashConsistent: true })).toMatchObject({ consistency: "crash" });
    expect(diskOf(dataDir, id).read(0)).toBe(0x11);
  });

  it("that cannot be switched is as before, and can be snapshotted later", async () => {
    const { id } = await create("web", { labels: { "berth.fake/switch-disks-error": "host_program_failed*1" } });
    const disk = diskOf(dataDir, id);
    disk.write(0, 0x11);
    // One that may pass is tried again by itself.
    expect(await snapshot("web", "one")).toMatchObject({ consistency: "frozen" });
    const other = await create("db", { labels: { "berth.fake/switch-disks-error": "host_program_failed" } });
    const asked = client.createSnapshot({ query: long, body: { instance: "db" } });
    await expectFailed(asked, "host_program_failed", "switch-disks-error");
    expect(readdirSync(join(dataDir, "instances", other.id, "vm"))).toEqual(["root.qcow2"]);
    expect((await get("db")).status).toMatchObject({ phase: "running", ready: true });
    expect((await client.listSnapshots({ query: { instance: "db" } })).items).toEqual([]);
  });
});

describe("a snapshot with memory", () => {
  it("goes on where it was: in place, and in new instances that are told who they are", async () => {
    const parent = await create("web", { ports: [{ guestPort: 80 }], env: { A: "1" } });
    const disk = diskOf(dataDir, parent.id);
    await write("web", "then");
    disk.write(0, 0x11);
    const made = await snapshot("web", "one", { memory: true });
    expect(made).toMatchObject({ kind: "memory", consistency: "memory", memoryBytes: expect.any(Number) });
    expect(made.memoryBytes).toBeGreaterThan(0);
    expect(made.ownBytes).toBeGreaterThanOrEqual(made.memoryBytes);
    await write("web", "now");
    disk.write(0, 0x22);

    const copies = await Promise.all([launch("one", { name: "two" }), launch("one", { name: "three", diskMib: 2048 })]);
    for (const copy of copies) {
      expect(copy.status).toMatchObject({ phase: "running", ready: true, start: { mode: "restored" } });
      expect(copy.status.ports[0]?.hostPort).not.toBe(parent.status.ports[0]?.hostPort);
      expect(await read(copy.name)).toBe("then");
      expect(diskOf(dataDir, copy.id).read(0)).toBe(0x11);
    }
    await write("two", "two");
    expect([await read("two"), await read("three"), await read("web")]).toEqual(["two", "then", "now"]);

    const { instance, kept } = await restore("one", { force: true });
    expect(instance.status).toMatchObject({ phase: "running", ready: true, start: { mode: "restored" } });
    expect([await read("web"), disk.read(0)]).toEqual(["then", 0x11]);
    await stop("web");
    await restore(kept?.name ?? "");
    expect(disk.read(0)).toBe(0x22);
    expect((await get("web")).status.phase).toBe("stopped");
  });

  it("is booted from its disk instead when asked so, or when its memory fits no more", async () => {
    const { id } = await create("web");
    diskOf(dataDir, id).write(0, 0x11);
    await snapshot("web", "one", { memory: true });
    const cold = await launch("one", { name: "cold", cold: true, memoryMib: 640, env: { B: "2" } });
    expect(cold.status).toMatchObject({ ready: true, start: { mode: "cold" } });
    const bigger = client.launchSnapshot({ params: { snapshot: "one" }, body: { memoryMib: 640 } });
    await expectRefused(bigger, "invalid_request", "memory");
    await restore("one", { force: true, diskOnly: true });
    expect((await get("web")).status).toMatchObject({ ready: true, start: { mode: "cold" } });
    await stop("web");
    const changed = { params: { instance: "web" }, query: long, body: { memoryMib: 640 } };
    expect((await client.changeInstance(changed)).operation?.error ?? null).toBeNull();
    await expectRefused(
      client.restoreSnapshot({ params: { snapshot: "one" }, body: {} }),
      "snapshot_mismatch",
      "640 MiB",
    );
    await restore("one", { diskOnly: true });
    expect((await get("web")).status.phase).toBe("stopped");
  });

  it("restored into a stopped instance runs; the next start boots", async () => {
    await create("web");
    await write("web", "then");
    await snapshot("web", "one", { memory: true });
    await stop("web");
    const { instance } = await restore("one");
    expect(instance.status).toMatchObject({ phase: "running", ready: true });
    expect(await read("web")).toBe("then");
    await stop("web");
    await client.startInstance({ params: { instance: "web" }, query: long });
    expect((await get("web")).status.start).toMatchObject({ mode: "cold" });
  });

  it("that is damaged is not gone on from, and its verification says so", async () => {
    await create("web");
    await snapshot("web", "one", { memory: true });
    damage(join(memoryFolders()[0] ?? "", "ram"));
    const asked = client.launchSnapshot({ params: { snapshot: "one" }, query: long, body: {} });
    await expectFailed(asked, "snapshot_damaged", "memory/ram");
    const params = { snapshot: "one" };
    const { startedAt } = (await get("web")).status;
    const restoring = client.restoreSnapshot({ params, query: long, body: { force: true } });
    await expectFailed(restoring, "snapshot_damaged", "memory/ram");
    await eventually(async () =>
      expect((await get("web")).status).toMatchObject({ phase: "running", ready: true, startedAt }),
    );
    await expectFailed(client.verifySnapshot({ params, query: long }), "snapshot_damaged", "memory/ram");
    expect((await launch("one", { cold: true })).status.start?.mode).toBe("cold");
  });

  it("leaves the instance as it was when the memory cannot be saved", async () => {
    const labels = { "berth.fake/save-memory-error": "host_program_failed" };
    const { id } = await create("web", { labels });
    diskOf(dataDir, id).write(0, 0x11);
    const asked = client.createSnapshot({ query: long, body: { instance: "web", memory: true } });
    await expectFailed(asked, "host_program_failed", "save-memory-error");
    expect((await get("web")).status).toMatchObject({ phase: "running", ready: true });
    expect(diskOf(dataDir, id).read(0)).toBe(0x11);
    expect(readdirSync(join(dataDir, "instances", id, "vm"))).toEqual(["root.qcow2"]);
  });

  it("is kept for an instance that was made from it and not started yet", async () => {
    await create("web");
    await write("web", "then");
    await snapshot("web", "one", { memory: true });
    const two: Instance = await launch("one", { name: "two", start: false });
    await forget("one");
    expect(memoryFolders()).toHaveLength(1);
    await client.startInstance({ params: { instance: two.id }, query: long });
    expect(await read("two")).toBe("then");
    await remove("web");
    expect(memoryFolders()).toEqual([]);
  });
});

function memoryFolders(): string[] {
  const root = join(dataDir, "snapshots");
  return readdirSync(root)
    .map((folder) => join(root, folder, "memory"))
    .filter((path) => existsSync(path));
}

function damage(path: string): void {
  const file = openSync(path, "r+");
  writeSync(file, Buffer.from("!"), 0, 1, 10);
  closeSync(file);
}
