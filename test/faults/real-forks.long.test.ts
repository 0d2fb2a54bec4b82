import { join } from "node:path";
import type { Client, Instance } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { listFaultPoints } from "../../packages/daemon/src/operations/fault.ts";
import { forkWorkflow } from "../../packages/daemon/src/workflows/fork.ts";
import type { Services } from "../../packages/daemon/src/workflows/services.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";
import { accelerated, auditQemu, removeRules } from "./audit-qemu.ts";

/** Steps are only named here, never run: what they would work with is not needed. */
const nobody = new Proxy({}, { get: () => undefined }) as Services;
const points = listFaultPoints([forkWorkflow(nobody)]);
const isUndo = (point: string) => point.includes("/undo/");
/** Where the whole fork is undone: all of its children run by then. */
const failsAt = "instance.fork/start-children/after";

const name = "victim";
const long = { wait: 120 } as const;
const env = { BERTH_LOG_LEVEL: "warn" };

let dataDir: string;
/** The same machine all the time: hypervisors outlive their berthd. */
let parent: Instance;

beforeAll(async () => {
  const scratch = await scratchDirectory("forks");
  dataDir = join(scratch, "data");
  await using berthd = await startBerthd({ dataDir, env });
  const { client } = berthd;
  await buildBusybox(client, scratch);
  await accelerated(dataDir);
  const body = { image: busyboxImage, name, memoryMib: 96, warm: "never" as const, ports: [{ guestPort: 80 }] };
  const { instance, operation } = await client.createInstance({ query: long, body });
  expect(operation.error).toBeNull();
  parent = instance;
});

afterAll(async () => {
  await using berthd = await startBerthd({ dataDir, env });
  await remove(berthd.client, [parent]);
  await auditQemu(berthd.client, dataDir, berthd.pid);
  removeRules(dataDir);
});

async function remove(client: Client, instances: readonly Instance[]): Promise<void> {
  for (const { id } of instances) {
    const { operation } = await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
    expect(operation.error).toBeNull();
  }
}

/** Has berthd killed at a point of a fork; then what another berthd finds. */
async function killedAt(point: string, fault = point): Promise<Berthd> {
  {
    await using berthd = await startBerthd({ dataDir, env: { ...env, BERTH_FAULT: fault } });
    // The answer may be lost with the daemon.
    await berthd.client
      .forkInstance({ params: { instance: name }, query: long, body: { count: 2 } })
      .catch(() => undefined);
    expect(await berthd.ended, `killed at ${point}`).toBe("SIGKILL");
  }
  const berthd = await startBerthd({ dataDir, env });
  await settled(berthd.client);
  return berthd;
}

async function expectServed({ status }: Instance): Promise<void> {
  expect(status).toMatchObject({ phase: "running", ready: true });
  const page = `http://127.0.0.1:${status.ports[0]?.hostPort}/bin/busybox`;
  expect((await fetch(page, { method: "HEAD" })).status).toBe(200);
}

/** The children there are; their parent runs on as it did. */
async function childrenOf(client: Client): Promise<readonly Instance[]> {
  const { items } = await client.listInstances({ query: {} });
  const now = items.find(({ id }) => id === parent.id);
  expect(now?.status).toMatchObject({ startedAt: parent.status.startedAt, ports: parent.status.ports });
  if (now) await expectServed(now);
  return items.filter(({ id }) => id !== parent.id);
}

describe.each(points.filter((point) => !isUndo(point)))("killed at %s", (point) => {
  it("all children go on by themselves, and nothing is lost or left", async () => {
    await using berthd = await killedAt(point);
    const { client } = berthd;
    const children = await childrenOf(client);
    expect(children.map(({ status }) => status.start?.mode)).toEqual(["forked", "forked"]);
    for (const child of children) await expectServed(child);
    await auditQemu(client, dataDir, berthd.pid);
    await remove(client, children);
    await auditQemu(client, dataDir, berthd.pid);
  });
});

describe.each(points.filter(isUndo))("killed at %s", (point) => {
  it("takes back what was begun: no child is left, and the parent runs on", async () => {
    await using berthd = await killedAt(point, `${point},fail:${failsAt}`);
    expect(await childrenOf(berthd.client)).toEqual([]);
    await auditQemu(berthd.client, dataDir, berthd.pid);
  });
});
