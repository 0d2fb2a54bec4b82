import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Client, CreateInstanceInput, Instance, Pool } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { World } from "../../packages/daemon/src/drivers/fake/world.ts";
import { localFiles } from "../../packages/daemon/src/host/files.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { eventually } from "../support/eventually.ts";
import { storeSettings } from "../support/postgres.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";

const image = "localhost/any:latest";
const long = { wait: 60 } as const;
const name = "spare";
const params = { pool: name };

describe.each(["sqlite", "postgres"] as const)("pools with %s", (kind) => {
  let scratch: string;
  let dataDir: string;
  let env: Record<string, string>;
  let berthd: Berthd;
  let client: Client;

  beforeAll(async () => {
    scratch = await scratchDirectory("pools");
    dataDir = join(scratch, "data");
    const store = await storeSettings(kind);
    env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", ...store };
    await start();
    await build("one");
  });

  afterAll(() => berthd?.stop());

  afterEach(async () => {
    for (const { id } of (await client.listPools()).items)
      await client.deletePool({ params: { pool: id }, query: long });
    await settled(client);
    await audit(client, dataDir);
    for (const { id } of (await client.listInstances()).items)
      await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
    await audit(client, dataDir);
  });

  async function start() {
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
  }

  async function build(content: string): Promise<void> {
    const path = join(scratch, content);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, "Dockerfile"), 'FROM scratch\nCOPY text /\nCMD ["/none"]\n');
    await writeFile(join(path, "text"), content);
    const body = { source: { type: "directory", path }, reference: image } as const;
    expect((await client.buildImage({ query: long, body })).operation.error).toBeNull();
  }

  async function launch(more: Partial<CreateInstanceInput> = {}): Promise<Instance> {
    const { instance, operation } = await client.createInstance({ query: long, body: { image, ...more } });
    expect(operation.error).toBeNull();
    expect(instance.status).toMatchObject({ phase: "running", ready: true });
    return instance;
  }

  const read = () => client.getPool({ params });
  const ids = async () => (await read()).machines.map(({ id }) => id);
  const until = (fits: (pool: Pool) => void) =>
    eventually(async () => {
      const pool = await read();
      fits(pool);
      return pool;
    });
  const full = (size: number) => until((pool) => expect([pool.ready, pool.filling]).toEqual([size, 0]));
  const create = async (size: number) => {
    await client.createPool({ body: { name, image, size } });
    return full(size);
  };

  it("is filled, claimed the oldest first, each machine once, and filled up again; what it takes is measured", async () => {
    const pool = await create(3);
    expect(pool.memoryBytes).toBeGreaterThan(3 * 2 ** 20);
    const [oldest] = pool.machines;
    const differs = { diskMib: 4096, env: { A: "b" }, ports: [{ guestPort: 80 }], labels: { a: "b" }, command: ["/x"] };
    const first = await launch({ name: "first", ...differs });
    expect(first).toMatchObject({ id: oldest?.id, labels: { a: "b" } });
    expect(first.status.start).toEqual({ mode: "pool", reason: `from the pool ${name}` });
    expect(first.status.ports[0]?.hostPort).toBeGreaterThan(0);
    const made = await Promise.all([1, 2, 3, 4].map(() => launch()));
    expect(new Set([first, ...made].map(({ id }) => id)).size).toBe(5);
    const modes = made.map(({ status }) => status.start?.mode);
    expect(modes.filter((mode) => mode === "pool").length).toBeGreaterThanOrEqual(2);
    await full(3);
    expect((await read()).uses).toBe(1 + modes.filter((mode) => mode === "pool").length);
    const { items } = await client.listEvents({ query: { subject: pool.id, limit: 500 } });
    expect(items.map(({ type }) => type).slice(0, 4)).toEqual([
      "pool.created",
      ...["pool.filled", "pool.filled", "pool.filled"],
    ]);
  });

  it("serves nobody who wants a cold start, another shape, or nothing started", async () => {
    await create(1);
    expect((await launch({ warm: "never" })).status.start?.mode).toBe("cold");
    expect((await launch({ cpus: 2, warm: "require" })).status.start?.mode).toBe("warm");
    const off = await client.createInstance({ query: long, body: { image, start: false } });
    expect(off.instance.status).toMatchObject({ phase: "stopped", start: null });
    expect((await read()).uses).toBe(0);
    await expect(client.createPool({ body: { name, image, size: 1 } })).rejects.toMatchObject({
      problem: { code: "name_taken" },
    });
  });

  it("grows and shrinks, and survives a berthd that is killed", async () => {
    await create(1);
    const [kept] = await ids();
    await client.changePool({ params, body: { size: 3 } });
    await full(3);
    await berthd.kill();
    await start();
    await full(3);
    expect(await ids()).toContain(kept);
    await client.changePool({ params, body: { size: 1 } });
    await full(1);
    expect((await launch()).status.start?.mode).toBe("pool");
  });

  it("replaces what the node's restart took, and what no longer fits its image", async () => {
    await create(2);
    const before = await ids();
    await berthd.stop();
    const world = new World(localFiles, join(dataDir, "fake"), 0);
    for (const { id } of await world.readAll())
      await world.change(id, (machine) => machine && { ...machine, run: machine.run && { ...machine.run, cutAt: 1 } });
    await start();
    await until(({ machines, ready }) => {
      expect(ready).toBe(2);
      for (const { id } of machines) expect(before).not.toContain(id);
    });
    const again = await ids();
    await build("two");
    await until(({ machines, ready, filling }) => {
      expect([ready, filling]).toEqual([2, 0]);
      for (const { id } of machines) expect(again).not.toContain(id);
    });
    expect((await launch()).status.start?.mode).toBe("pool");
  });

  it("one that died unseen is replaced as it is claimed", async () => {
    await create(1);
    const [id = ""] = await ids();
    const world = new World(localFiles, join(dataDir, "fake"), 0);
    const [machine] = (await world.readAll()).filter(({ owner }) => owner.instanceId === id);
    await world.change(machine?.id ?? "", () => null);
    const { instance, operation } = await client.createInstance({ query: long, body: { image, diskMib: 2048 } });
    expect(operation.error).toBeNull();
    expect(instance.id).toBe(id);
    expect(instance.status.start?.mode).toBe("warm");
  });

  it("says why it is not full", async () => {
    await client.createPool({ body: { name, image: "localhost/nothing:latest", size: 1 } });
    const pool = await until(({ reason }) => expect(reason).not.toBe(""));
    expect(pool).toMatchObject({ ready: 0, reason: expect.stringContaining("there is no image localhost/nothing") });
  });
});
