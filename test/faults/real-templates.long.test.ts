import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Client, Pool } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { listFaultPoints } from "../../packages/daemon/src/operations/fault.ts";
import { poolWorkflows } from "../../packages/daemon/src/workflows/pool.ts";
import type { Services } from "../../packages/daemon/src/workflows/services.ts";
import { templateWorkflows } from "../../packages/daemon/src/workflows/template.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";
import { accelerated, auditQemu, removeRules } from "./audit-qemu.ts";

/** Steps are only named here, never run: what they would work with is not needed. */
const nobody = new Proxy({}, { get: () => undefined }) as Services;
const of = (type: string, undo: boolean) =>
  listFaultPoints([...templateWorkflows(nobody), ...poolWorkflows(nobody)])
    .filter((point) => point.startsWith(`${type}/`))
    .filter((point) => point.includes("/undo/") === undo);

/** The points of a launch that is cloned: those before it boots or not are passed by real-qemu.test.ts. */
const cloning = ["before", "after"].map((side) => `instance.create/start-machine/${side}`);
/** The points of one that takes a machine from a pool. */
const claiming = ["take-over/before", "take-over/after", "start-machine/before", "start-machine/after"].map(
  (point) => `instance.create/${point}`,
);

const image = busyboxImage;
const name = "victim";
const pool = "spare";
const memoryMib = 96;
const long = { wait: 120 } as const;
const env = { BERTH_LOG_LEVEL: "warn" };

let dataDir: string;

beforeAll(async () => {
  const scratch = await scratchDirectory("clones");
  dataDir = join(scratch, "data");
  await using berthd = await startBerthd({ dataDir, env });
  await buildBusybox(berthd.client, scratch);
  await accelerated(dataDir);
});

afterAll(() => removeRules(dataDir));

async function launch(client: Client): Promise<void> {
  const body = { image, name, memoryMib, warm: "require" as const, ports: [{ guestPort: 80 }] };
  const { operation } = await client.createInstance({ query: long, body });
  expect(operation.error).toBeNull();
}

async function makeTemplate(client: Client): Promise<void> {
  await launch(client);
  await removeInstances(client);
}

async function removeInstances(client: Client): Promise<void> {
  for (const { id } of (await client.listInstances()).items) {
    const { operation } = await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
    expect(operation.error).toBeNull();
  }
}

async function removeTemplates(client: Client): Promise<void> {
  for (const { id } of (await client.listTemplates()).items) {
    const { operation } = await client.deleteTemplate({ params: { template: id }, query: long });
    expect(operation.error).toBeNull();
  }
}

async function untilPool(client: Client, fits: (pool: Pool) => boolean): Promise<void> {
  for (;;) {
    const found = (await client.listPools()).items.find((one) => one.name === pool);
    if (!found || fits(found)) return;
    await delay(100);
  }
}

/** Has berthd killed at a point as something is done; then what another berthd finds. */
async function killedAt(point: string, act: (client: Client) => Promise<unknown>): Promise<Berthd> {
  {
    await using berthd = await startBerthd({ dataDir, env: { ...env, BERTH_FAULT: point } });
    // The answer may be lost with the daemon.
    await act(berthd.client).catch(() => undefined);
    expect(await berthd.ended, `killed at ${point}`).toBe("SIGKILL");
  }
  const berthd = await startBerthd({ dataDir, env });
  await settled(berthd.client);
  return berthd;
}

async function expectServed(client: Client, mode: string): Promise<void> {
  const { status } = await client.getInstance({ params: { instance: name } });
  expect(status).toMatchObject({ phase: "running", ready: true, start: { mode } });
  const page = `http://127.0.0.1:${status.ports[0]?.hostPort}/bin/busybox`;
  expect((await fetch(page, { method: "HEAD" })).status).toBe(200);
}

describe.each(of("template.create", false))("killed at %s", (point) => {
  it("makes the template by itself and clones from it, with nothing lost or left", async () => {
    await using berthd = await killedAt(point, launch);
    const { client } = berthd;
    await expectServed(client, "warm");
    expect((await client.listTemplates()).items).toMatchObject([{ state: "ready", uses: 1 }]);
    await auditQemu(client, dataDir, berthd.pid);
    await removeInstances(client);
    await removeTemplates(client);
    await auditQemu(client, dataDir, berthd.pid);
  });
});

describe.each(of("template.create", true))("killed at %s", (point) => {
  it("takes back what was begun, with nothing left", async () => {
    const templates = join(dataDir, "templates");
    rmSync(templates, { recursive: true, force: true });
    writeFileSync(templates, "");
    await using berthd = await killedAt(point, launch);
    const { client } = berthd;
    rmSync(templates);
    expect((await client.listTemplates()).items).toMatchObject([{ state: "failed" }]);
    expect((await client.listInstances()).items).toEqual([]);
    await auditQemu(client, dataDir, berthd.pid);
    await removeTemplates(client);
  });
});

describe("with a template", () => {
  beforeAll(async () => {
    await using berthd = await startBerthd({ dataDir, env });
    await makeTemplate(berthd.client);
  });

  afterAll(async () => {
    await using berthd = await startBerthd({ dataDir, env });
    await removeTemplates(berthd.client);
    expect(readdirSync(join(dataDir, "templates"))).toEqual([]);
  });

  it.each(cloning)("killed at %s a clone is finished by itself", async (point) => {
    await using berthd = await killedAt(point, launch);
    await expectServed(berthd.client, "warm");
    await auditQemu(berthd.client, dataDir, berthd.pid);
    await removeInstances(berthd.client);
    await auditQemu(berthd.client, dataDir, berthd.pid);
  });

  it.each(of("pool-member.create", false).filter((point) => !point.includes("/request-template/")))(
    "killed at %s a pool is filled by itself",
    async (point) => {
      await using berthd = await killedAt(point, async (client) => {
        await client.createPool({ body: { name: pool, image, memoryMib, size: 1 } });
        await untilPool(client, ({ ready }) => ready === 1);
      });
      const { client } = berthd;
      await untilPool(client, ({ ready, filling }) => ready === 1 && filling === 0);
      await settled(client);
      await auditQemu(client, dataDir, berthd.pid);
      const { operation } = await client.deletePool({ params: { pool }, query: long });
      expect(operation.error).toBeNull();
      await auditQemu(client, dataDir, berthd.pid);
    },
  );

  it.each(claiming)("killed at %s a machine of a pool is taken over by itself", async (point) => {
    {
      await using first = await startBerthd({ dataDir, env });
      await first.client.createPool({ body: { name: pool, image, memoryMib, size: 1 } });
      await untilPool(first.client, ({ ready }) => ready === 1);
    }
    await using berthd = await killedAt(point, async (client) => {
      await launch(client);
    });
    const { client } = berthd;
    await client.changePool({ params: { pool }, body: { size: 0 } });
    await untilPool(client, ({ machines }) => machines.length === 0);
    await expectServed(client, "pool");
    await settled(client);
    await auditQemu(client, dataDir, berthd.pid);
    await removeInstances(client);
    const { operation } = await client.deletePool({ params: { pool }, query: long });
    expect(operation.error).toBeNull();
    await auditQemu(client, dataDir, berthd.pid);
  });
});
