import { closeSync, openSync, readdirSync, statSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Client, Instance } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { audit } from "../faults/audit.ts";
import { type AppNode, startAppNode } from "../support/app-node.ts";
import { diskOf, frozenFiles } from "../support/disks.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const long = { wait: 60 } as const;
const isRoot = process.getuid?.() === 0;

let node: AppNode;
let image: string;
let dataDir: string;
let client: Client;

beforeAll(async () => {
  node = await startAppNode("sns");
  ({ client, dataDir, image } = node);
});

afterAll(() => node?.[Symbol.asyncDispose]());

afterEach(async () => {
  await removeAll();
  await audit(client, dataDir);
  expect(readdirSync(join(dataDir, "snapshots"))).toEqual([]);
});

const calls = snapshotCalls(
  () => client,
  () => image,
);
const { snapshot, restore, launch, remove, forget, removeAll, start } = calls;
const create = (name: string) => calls.create(name, { start: false });

const sizes = async (name: string) => {
  const { ownBytes, sharedBytes } = await client.getSnapshot({ params: { snapshot: name } });
  return { own: ownBytes > 0, shared: sharedBytes > 0 };
};

describe("a snapshot of a stopped instance", () => {
  it("keeps what was on its disk, is restored in place, and what was there before can be restored as well", async () => {
    const { id } = await create("web");
    const disk = diskOf(dataDir, id);
    disk.write(0, 0x11);
    const made = await snapshot("web", "one");
    expect(made).toMatchObject({ state: "ready", instanceName: "web", consistency: "stopped" });
    expect(made.disks).toEqual([{ name: "root", sizeBytes: 1024 * 2 ** 20 }]);
    disk.write(0, 0x22);
    disk.write(1, 0x33);
    const { instance, kept } = await restore("one");
    expect(instance.status.phase).toBe("stopped");
    expect([disk.read(0), disk.read(1)]).toEqual([0x11, 0]);
    disk.write(2, 0x44);
    expect(kept?.name).toMatch(/^web-before-restore-\d{8}-\d{6}$/);
    await restore(kept?.name ?? "", { discard: true });
    expect([disk.read(0), disk.read(1), disk.read(2)]).toEqual([0x22, 0x33, 0]);
    expect((await client.listSnapshots({ query: { instance: "web" } })).items).toHaveLength(2);
  });

  it("becomes new instances, each with a disk of its own, as it was then but for what is asked", async () => {
    const { id } = await calls.create("web", { start: false, env: { A: "1" }, ports: [{ guestPort: 80 }] });
    diskOf(dataDir, id).write(0, 0x11);
    await snapshot("web", "one");
    await remove("web");
    const [two, three] = await Promise.all([
      launch("one", { name: "two", start: false, env: { B: "2" } }),
      launch("one", { name: "three", memoryMib: 640, diskMib: 2048 }),
    ]);
    diskOf(dataDir, two.id).write(0, 0x22);
    expect(two.origin).toMatchObject({ kind: "snapshot", instance: { name: "web" }, snapshot: { name: "one" } });
    expect(two.spec.env).toEqual({ A: "1", B: "2" });
    expect(three.status).toMatchObject({ phase: "running", ready: true });
    expect(three.status.ports[0]).toMatchObject({ guestPort: 80 });
    expect(three.spec).toMatchObject({ memoryMib: 640, disks: [{ sizeMib: 2048 }] });
    expect(diskOf(dataDir, three.id).read(0)).toBe(0x11);
    await forget("one");
    expect([diskOf(dataDir, two.id).read(0), diskOf(dataDir, three.id).read(0)]).toEqual([0x22, 0x11]);
    expect((await client.getInstance({ params: { instance: "two" } })).origin).toMatchObject({
      kind: "snapshot",
      snapshot: { name: "one" },
    });
  });

  it("can be deleted in any order: the others, and the instance, keep what they need", async () => {
    const { id } = await create("web");
    const disk = diskOf(dataDir, id);
    for (const [at, name] of ["one", "two", "three"].entries()) {
      disk.write(at, at + 1);
      await snapshot("web", name);
    }
    disk.write(3, 4);
    expect(await sizes("two")).toEqual({ own: false, shared: true });
    await forget("two");
    await restore("three", { discard: true });
    expect([0, 1, 2, 3].map(disk.read)).toEqual([1, 2, 3, 0]);
    await restore("one", { discard: true });
    expect([0, 1, 2, 3].map(disk.read)).toEqual([1, 0, 0, 0]);
    // Nobody else stands on what was written after the first any more.
    expect(await sizes("three")).toEqual({ own: true, shared: true });
    await forget("three");
    await forget("one");
    expect([0, 1, 2, 3].map(disk.read)).toEqual([1, 0, 0, 0]);
    expect(frozenFiles(dataDir)).toHaveLength(1);
  });

  it("outlives its instance, unless it is to go with it", async () => {
    await create("web");
    const one = await snapshot("web", "one");
    await remove("web");
    expect((await client.listSnapshots({ query: { instance: one.instanceId } })).items).toHaveLength(1);
    await expectRefused(client.deleteImage({ params: { image: one.imageId } }), "image_in_use", "one");
    const again = await launch("one", { name: "web", start: false });
    await snapshot("web", "two");
    await remove("web", true);
    const { items } = await client.listSnapshots({ query: {} });
    expect(items.map(({ name }) => name)).toEqual(["one"]);
    expect(again.imageId).toBe(one.imageId);
  });

  it("is stopped for, restored and started again when asked so", async () => {
    const { id } = await create("web");
    diskOf(dataDir, id).write(0, 0x11);
    await snapshot("web", "one");
    await start("web");
    const asked = client.restoreSnapshot({ params: { snapshot: "one" }, body: {} });
    await expectRefused(asked, "instance_running", "web is running");
    const { startedAt } = (await client.getInstance({ params: { instance: "web" } })).status;
    const { instance } = await restore("one", { force: true });
    expect(instance.status).toMatchObject({ phase: "running", ready: true });
    expect(instance.status.startedAt).not.toBe(startedAt);
  });

  it("is refused for what is not there, a name in use, or what cannot be", async () => {
    await create("web");
    await expectRefused(client.createSnapshot({ body: { instance: "nobody" } }), "not_found", "nobody");
    const memory = client.createSnapshot({ body: { instance: "web", memory: true } });
    await expectRefused(memory, "instance_not_running", "web is stopped");
    await snapshot("web", "one");
    await expectRefused(client.createSnapshot({ body: { instance: "web", name: "one" } }), "name_taken", "one");
    await expectRefused(client.launchSnapshot({ params: { snapshot: "none" }, body: {} }), "not_found", "none");
    const small = client.launchSnapshot({ params: { snapshot: "one" }, body: { diskMib: 16 } });
    await expectRefused(small, "invalid_request", "1024 MiB");
  });

  it.runIf(isRoot)("is reachable by name alone, and writable by nobody", async () => {
    await create("web");
    await snapshot("web", "one");
    const [file = ""] = frozenFiles(dataDir);
    const facts = statSync(file);
    expect([facts.uid, facts.mode & 0o777]).toEqual([0, 0o444]);
    for (const folder of [join(file, ".."), join(file, "../..")]) expect(statSync(folder).mode & 0o777).toBe(0o711);
  });
});

describe("a damaged snapshot", () => {
  /** Damages what the test says of the snapshot `one` of a new instance; gives what was there before. */
  async function damaged(damage: (file: string) => void): Promise<Instance> {
    const instance = await create("web");
    diskOf(dataDir, instance.id).write(0, 0x11);
    await snapshot("web", "one");
    const [file = ""] = frozenFiles(dataDir);
    damage(file);
    return instance;
  }

  const change = (file: string) => {
    const opened = openSync(file, "r+");
    writeSync(opened, Buffer.from("!"), 0, 1, statSync(file).size - 100);
    closeSync(opened);
  };

  it.each([
    ["with a changed byte", change, "checksum"],
    ["cut short", (file: string) => truncateSync(file, statSync(file).size - 4096), "checksum"],
  ])("%s is not restored or launched from, and its verification says so", async (_, damage, words) => {
    await damaged(damage);
    await expectFailed(
      client.launchSnapshot({ params: { snapshot: "one" }, query: long, body: {} }),
      "snapshot_damaged",
      words,
    );
    expect((await client.listInstances({ query: {} })).items.map(({ name }) => name)).toEqual(["web"]);
    await expectFailed(
      client.restoreSnapshot({ params: { snapshot: "one" }, query: long, body: {} }),
      "snapshot_damaged",
      words,
    );
    await expectFailed(client.verifySnapshot({ params: { snapshot: "one" }, query: long }), "snapshot_damaged", words);
    const { verification } = await client.getSnapshot({ params: { snapshot: "one" } });
    expect(verification).toMatchObject({ verdict: "damaged", reason: expect.stringContaining(words) });
  });

  it("is told from a sound one that was only touched", async () => {
    const { id } = await damaged((file) => {
      const opened = openSync(file, "r+");
      writeSync(opened, Buffer.alloc(1), 0, 0, 0);
      closeSync(opened);
    });
    await restore("one");
    const { operation, snapshot: one } = await client.verifySnapshot({ params: { snapshot: "one" }, query: long });
    expect([operation.status, one.verification.verdict]).toEqual(["succeeded", "sound"]);
    expect(diskOf(dataDir, id).read(0)).toBe(0x11);
  });
});
