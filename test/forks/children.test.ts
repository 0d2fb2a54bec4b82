import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { Client, CreateInstanceInput, ForkInstanceInput, Instance } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { audit } from "../faults/audit.ts";
import { type AppNode, startAppNode } from "../support/app-node.ts";
import { diskOf } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";
import { guestNote } from "../support/guest-note.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const long = { wait: 60 } as const;
const parent = { instance: "web" };

let node: AppNode;
let image: string;
let dataDir: string;
let client: Client;

beforeAll(async () => {
  node = await startAppNode("fork", { BERTH_READY_TIMEOUT: "2" });
  ({ client, dataDir, image } = node);
});

afterAll(() => node?.[Symbol.asyncDispose]());

const { create, start, stop, snapshot, forget, remove, removeAll } = snapshotCalls(
  () => client,
  () => image,
);
const { read, write } = guestNote(() => client);

afterEach(async () => {
  await removeAll();
  await audit(client, dataDir);
  expect(folders()).toEqual([]);
});

const get = (name: string) => client.getInstance({ params: { instance: name } });
const folders = () => {
  const root = join(dataDir, "snapshots");
  return existsSync(root) ? readdirSync(root) : [];
};
const memories = () => folders().filter((folder) => existsSync(join(dataDir, "snapshots", folder, "memory")));

async function fork(body: ForkInstanceInput = {}, of = "web"): Promise<readonly Instance[]> {
  const { children, operation } = await client.forkInstance({ params: { instance: of }, query: long, body });
  expect(operation.error).toBeNull();
  return children;
}

/** A parent with something on its disk and something else in its memory. */
async function arrange(asked: Partial<CreateInstanceInput> = {}): Promise<Instance> {
  const made = await create("web", asked);
  await write("web", "then");
  diskOf(dataDir, made.id).write(0, 0x11);
  return made;
}

describe("a fork", () => {
  it("makes children that go on from the parent's memory and disk of one moment, each as itself", async () => {
    const { id, status } = await arrange({ ports: [{ guestPort: 80 }], env: { A: "1" }, labels: { team: "a" } });
    const children = await fork({ count: 3, labels: { trial: "yes" } });
    await write("web", "now");
    diskOf(dataDir, id).write(0, 0x22);

    expect(children.map(({ name }) => name)).toEqual(["web-1", "web-2", "web-3"]);
    for (const [index, child] of children.entries()) {
      expect(child.status).toMatchObject({ phase: "running", ready: true, start: { mode: "forked" } });
      expect(child.origin).toEqual({ kind: "fork", instance: { id, name: "web" }, index });
      expect(child).toMatchObject({
        labels: { team: "a", trial: "yes" },
        spec: { env: { A: "1" } },
        operationId: null,
      });
      expect(await read(child.name)).toBe("then");
      expect(diskOf(dataDir, child.id).read(0)).toBe(0x11);
    }
    // What each writes is its own.
    await write("web-1", "one");
    diskOf(dataDir, children[0]?.id ?? "").write(0, 0x33);
    expect([await read("web-1"), await read("web-2"), await read("web")]).toEqual(["one", "then", "now"]);
    expect(diskOf(dataDir, children[1]?.id ?? "").read(0)).toBe(0x11);

    // The parent runs on as it was, with its own ports.
    const after = await get("web");
    expect(after.status).toMatchObject({ phase: "running", ready: true, startedAt: status.startedAt });
    const ports = [after, ...children].map((one) => one.status.ports[0]?.hostPort);
    expect(new Set(ports).size).toBe(4);
    expect(after.status.ports).toEqual(status.ports);
    // The memory has done its work.
    expect(memories()).toEqual([]);
    expect((await client.listSnapshots({ query: {} })).items).toEqual([]);
  });

  it("tells how long the parent stood still, in its progress and in an event", async () => {
    const { id } = await arrange();
    const { operation, children } = await client.forkInstance({ params: parent, query: long, body: { count: 2 } });
    const saved = operation.steps.find(({ name }) => name === "save-memory");
    expect(saved?.detail).toMatch(/^stood still for \d+ ms$/);
    const { items } = await client.listEvents({ query: { type: "instance.forked", subject: id } });
    expect(items.map(({ data }) => data)).toEqual([
      { children: children.map((child) => ({ id: child.id, name: child.name })), pausedMs: expect.any(Number) },
    ]);
  });

  it("names its children after what is asked for, and leaves names that are taken", async () => {
    await arrange();
    await create("web-2", { start: false });
    expect((await fork({ count: 2 })).map(({ name }) => name)).toEqual(["web-1", "web-3"]);
    expect((await fork({ name: "trial" })).map(({ name }) => name)).toEqual(["trial"]);
    expect((await fork({ name: "trial", count: 2 })).map(({ name }) => name)).toEqual(["trial-1", "trial-2"]);
    await expectRefused(client.forkInstance({ params: parent, body: { name: "trial" } }), "name_taken", "trial");
  });

  it("publishes what is asked for; one host port for several children is refused", async () => {
    const made = await arrange({ ports: [{ guestPort: 80 }] });
    const { hostPort = 0 } = made.status.ports[0] ?? {};
    const [child] = await fork({ ports: [{ guestPort: 81 }] });
    expect(child?.status.ports).toMatchObject([{ guestPort: 81, hostPort: expect.any(Number) }]);
    const many = client.forkInstance({
      params: parent,
      body: { count: 2, ports: [{ hostPort: 8080, guestPort: 80 }] },
    });
    await expectRefused(many, "invalid_request", "body.ports.0.hostPort");
    const taken = { params: parent, query: long, body: { ports: [{ hostPort, guestPort: 80 }] } };
    await expectFailed(client.forkInstance(taken), "port_taken", String(hostPort));
    expect((await client.listInstances({ query: {} })).items).toHaveLength(2);
  });

  it("is of the machine as it runs, not as it is wished for", async () => {
    await arrange({ memoryMib: 512, env: { A: "1" } });
    await client.changeInstance({ params: parent, query: long, body: { memoryMib: 640, env: { A: "2" } } });
    const [child] = await fork();
    expect(child).toMatchObject({ spec: { memoryMib: 512, env: { A: "1" } }, status: { ready: true, pending: [] } });
    // Later starts are its own.
    await stop("web-1");
    await start("web-1");
    expect((await get("web-1")).status).toMatchObject({ ready: true, start: { mode: "cold" } });
  });

  it("of a child is one more generation", async () => {
    await arrange();
    await fork();
    await write("web-1", "one");
    const [grandchild] = await fork({}, "web-1");
    expect(grandchild?.name).toBe("web-1-1");
    expect(await read("web-1-1")).toBe("one");
  });

  it("can be followed by deletes in any order: who is left keeps what it stands on, and the last takes it along", async () => {
    for (const order of [
      ["web", "web-1", "web-2"],
      ["web-2", "web", "web-1"],
      ["web-1", "web-2", "web"],
    ]) {
      await arrange();
      await fork({ count: 2 });
      while (order.length > 0) {
        await remove(order.shift() ?? "");
        for (const name of order) {
          const { id, status } = await get(name);
          expect(status).toMatchObject({ phase: "running", ready: true });
          expect(diskOf(dataDir, id).read(0)).toBe(0x11);
        }
        await audit(client, dataDir);
      }
      expect(folders()).toEqual([]);
    }
  });

  it("can be snapshotted, parent and child, and what they stand on is verified with it", async () => {
    await arrange();
    const [child] = await fork();
    const root = join(dataDir, "snapshots", folders()[0] ?? "");
    await eventually(() => expect(existsSync(join(root, "layers.json"))).toBe(true));
    expect(await snapshot("web-1", "one", { memory: true })).toMatchObject({ consistency: "memory" });
    await remove("web");
    const { operation } = await client.verifySnapshot({ params: { snapshot: "one" }, query: long });
    expect(operation.error).toBeNull();
    await remove(child?.id ?? "");
    await forget("one");
  });
});

describe("what cannot be forked", () => {
  it("is refused: what does not run, what is not there, and more children than there may be", async () => {
    await create("web", { start: false });
    await expectRefused(client.forkInstance({ params: parent, body: {} }), "instance_not_running", "web is stopped");
    await expectRefused(client.forkInstance({ params: { instance: "no" }, body: {} }), "not_found", "no");
    await expectRefused(client.forkInstance({ params: parent, body: { count: 101 } }), "invalid_request", "count");
    await expectRefused(client.forkInstance({ params: parent, body: { count: 0 } }), "invalid_request", "count");
    const old = client.forkInstance({ params: parent, body: {} }, { ifMatch: 7 });
    await expectRefused(old, "precondition_failed", "generation 1");
  });

  it("leaves nothing: when the memory cannot be saved the parent is as before", async () => {
    const labels = { "berth.fake/save-memory-error": "host_program_failed" };
    const { id } = await arrange({ labels });
    const asked = client.forkInstance({ params: parent, query: long, body: { count: 3 } });
    await expectFailed(asked, "host_program_failed", "save-memory-error");
    await expectAsBefore(id);
    expect(readdirSync(join(dataDir, "instances", id, "vm"))).toEqual(["root.qcow2"]);
    expect(folders()).toEqual([]);
  });

  it("leaves nothing: when a child cannot go on none is left, and the parent runs on", async () => {
    const { id } = await arrange();
    const labels = { "berth.fake/memory-refused": "true" };
    const asked = client.forkInstance({ params: parent, query: long, body: { count: 3, labels } });
    await expectFailed(asked, "memory_unusable", "");
    await expectAsBefore(id);
    expect(memories()).toEqual([]);
  });

  it("leaves nothing when it is cancelled", async () => {
    const { id } = await arrange();
    const labels = { "berth.fake/start-block": "forever" };
    const { operation } = await client.forkInstance({ params: parent, body: { count: 2, labels } });
    await eventually(async () => {
      const { steps } = await client.getOperation({ params: { operation: operation.id } });
      expect(steps.at(-1)?.name).toBe("start-children");
    });
    await client.cancelOperation({ params: { operation: operation.id } });
    const ended = await client.waitOperation({ params: { operation: operation.id }, query: { timeout: 60 } });
    expect(ended.status).toBe("cancelled");
    await expectAsBefore(id);
  });

  async function expectAsBefore(id: string): Promise<void> {
    const { items } = await client.listInstances({ query: {} });
    expect(items.map(({ name, status }) => [name, status.phase, status.ready])).toEqual([["web", "running", true]]);
    expect(await read("web")).toBe("then");
    expect(diskOf(dataDir, id).read(0)).toBe(0x11);
  }
});

describe("a child that is not well", () => {
  it("is kept and says why; its parent runs on", async () => {
    await arrange();
    const asked = client.forkInstance({
      params: parent,
      query: long,
      body: { count: 2, labels: { "berth.fake/crash-after": "1" } },
    });
    await expectFailed(asked, "exited_early", "web-1: The machine is off again");
    expect((await get("web-1")).status).toMatchObject({ phase: "failed", ready: false });
    expect((await get("web")).status).toMatchObject({ phase: "running", ready: true });
  });
});
