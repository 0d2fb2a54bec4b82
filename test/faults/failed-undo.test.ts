import { join } from "node:path";
import type { Client, CreateInstanceInput, Instance, Operation } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { World } from "../../packages/daemon/src/drivers/fake/world.ts";
import { localFiles } from "../../packages/daemon/src/host/files.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { defaultRetry } from "../../packages/daemon/src/operations/backoff.ts";
import { type DaemonHere, startDaemonHere } from "../support/daemon-here.ts";
import { eventually } from "../support/eventually.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { audit } from "./audit.ts";

/** As often as berthd tries to take something back the hypervisor fails; the next time it obeys. */
const stuck = { "berth.fake/destroy-error": `host_program_failed*${defaultRetry.limit}` };
const long = { wait: 60 } as const;

let registry: FakeRegistry;
let berthd: DaemonHere;
let client: Client;
let dataDir: string;

beforeAll(async () => {
  registry = await startFakeRegistry();
  registry.addImage("app", "latest", [writeTar([{ path: "f", content: "x" }])], { config: { Cmd: ["/f"] } });
  dataDir = join(await scratchDirectory("undo"), "data");
  berthd = await startDaemonHere({ dataDir, env: { BERTH_DRIVER: "fake", BERTH_ALLOW_HOSTS: registry.host } });
  client = berthd.client;
});

afterAll(async () => {
  await berthd?.[Symbol.asyncDispose]();
  await registry?.[Symbol.asyncDispose]();
});

const create = (name: string, asked: Partial<CreateInstanceInput>) =>
  client.createInstance({ query: long, body: { name, image: `${registry.host}/app`, ...asked } });

/** The operation once it has ended, however long its trying takes. */
async function ended({ id }: Operation): Promise<Operation> {
  for (;;) {
    const operation = await client.waitOperation({ params: { operation: id }, query: { timeout: 60 } });
    if (operation.endedAt !== null) return operation;
  }
}

async function hasMachine({ id }: Pick<Instance, "id">): Promise<boolean> {
  const machines = await new World(localFiles, join(dataDir, "fake"), 0).readAll();
  return machines.some(({ owner }) => owner.instanceId === id);
}

/** Its machine is still there, and so is what it is removed by; nothing is left then. */
async function expectRemovable(name: string, step: string, why: string): Promise<void> {
  const left = await client.getInstance({ params: { instance: name } });
  expect(left.status).toMatchObject({ phase: "failed", ready: false });
  expect(left.status.reason).toMatch(new RegExp(`${why}.*${step}`));
  expect(left.spec.power).toBe("stopped");
  expect(await hasMachine(left)).toBe(true);
  const { operation } = await client.deleteInstance({ params: { instance: name }, query: long });
  expect(operation.error).toBeNull();
  expect(await hasMachine(left)).toBe(false);
}

describe("an instance whose machine cannot be taken back stays as failed, and can be deleted", () => {
  it.concurrent("when its launch failed", async () => {
    const { operation } = await create("failed", { labels: { ...stuck, "berth.fake/start-error": "internal" } });
    expect((await ended(operation)).status).toBe("failed");
    await expectRemovable("failed", "create-machine", "start-error");
  });

  it.concurrent("when its launch was cancelled", async () => {
    const env = { BERTH_FAKE_READY_AFTER: "never" };
    const { operation } = await client.createInstance({
      body: { name: "cancelled", image: `${registry.host}/app`, labels: stuck, env, ports: [{ guestPort: 80 }] },
    });
    const params = { operation: operation.id };
    await eventually(async () => {
      const { steps } = await client.getOperation({ params });
      expect(steps.map(({ name }) => name)).toContain("await-ready");
    });
    await client.cancelOperation({ params });
    expect((await ended(operation)).status).toBe("cancelled");
    await expectRemovable("cancelled", "create-machine", "was cancelled");
  });

  it.concurrent("when it is the child of a fork that failed", async () => {
    const parent = { params: { instance: "parent" }, query: long };
    expect((await create("parent", {})).operation.error).toBeNull();
    const body = { name: "child", labels: { ...stuck, "berth.fake/memory-refused": "" } };
    const { operation } = await client.forkInstance({ ...parent, body });
    expect((await ended(operation)).status).toBe("failed");
    await expectRemovable("child", "make-children", "memory");
    expect((await client.deleteInstance({ ...parent, query: { ...long, force: true } })).operation.error).toBeNull();
  });
});

it("leaves nothing behind", async () => {
  expect((await client.listInstances({ query: {} })).items).toEqual([]);
  await audit(client, dataDir);
});
