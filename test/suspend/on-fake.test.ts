import { rmSync, writeFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import type { Client, CreateInstanceInput, Instance, Operation } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/ports.ts";
import { storeSettings } from "../support/postgres.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";

const image = "localhost/any:latest";
const name = "web";
const params = { instance: name };
const long = { wait: 60 } as const;

describe.each(["sqlite", "postgres"] as const)("with %s", (kind) => {
  let berthd: Berthd;
  let client: Client;
  let dataDir: string;
  let env: Record<string, string>;

  const restartBerthd = async () => {
    await berthd.stop();
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
  };

  beforeAll(async () => {
    const scratch = await scratchDirectory("susp");
    const store = await storeSettings(kind);
    env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_TEMPLATES: "asked", ...store };
    dataDir = join(scratch, "data");
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
    const path = join(scratch, "context");
    await mkdir(path);
    await writeFile(join(path, "Dockerfile"), 'FROM scratch\nCOPY Dockerfile /\nCMD ["/none"]\n');
    const body = { source: { type: "directory" as const, path }, reference: image };
    expect((await client.buildImage({ query: long, body })).operation.error).toBeNull();
  });

  afterAll(() => berthd?.stop());

  afterEach(async () => {
    for (const { id } of (await client.listInstances({ query: {} })).items)
      await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
  });

  const create = async (asked: Partial<CreateInstanceInput> = {}): Promise<Instance> => {
    const body = { image, name, ports: [{ hostPort: await freePort(), guestPort: 80 }], ...asked };
    const { operation, instance } = await client.createInstance({ query: long, body });
    expect(operation.error).toBeNull();
    return client.getInstance({ params: { instance: instance.id } });
  };
  const now = () => client.getInstance({ params });
  const done = async (changing: Promise<{ operation: Operation }>) => {
    const { operation } = await changing;
    expect(operation.error).toBeNull();
    return operation;
  };
  const suspend = () => client.suspendInstance({ params, query: long });
  const start = (query: { cold?: boolean } = {}) => client.startInstance({ params, query: { ...long, ...query } });
  const memoryFolder = (id: string) => join(dataDir, "instances", id, "memory");

  it("a suspended instance goes on from where it was, as the same run", async () => {
    const before = await create();
    expect(before.status).toMatchObject({ phase: "running", start: { mode: "cold" }, memoryBytes: null });
    await done(suspend());
    const asleep = await now();
    expect(asleep).toMatchObject({
      spec: { power: "suspended" },
      status: { phase: "suspended", ready: false, reason: "" },
    });
    expect(asleep.status.memoryBytes).toBeGreaterThan(0);
    expect(await done(suspend())).toMatchObject({ steps: [] });
    await done(start());
    expect(await now()).toMatchObject({
      spec: { power: "running" },
      status: { phase: "running", ready: true, start: { mode: "resumed" }, memoryBytes: null },
    });
    await done(client.stopInstance({ params, query: long }));
    await done(start());
    expect((await now()).status.start).toMatchObject({ mode: "cold" });
  });

  it("what would lose its memory is refused unless it is forced", async () => {
    const { id } = await create();
    await done(suspend());
    await expectRefused(client.stopInstance({ params, query: long }), "instance_suspended", "a stop would lose");
    await expectRefused(client.restartInstance({ params, query: long }), "instance_suspended", "a restart would lose");
    expect((await now()).status).toMatchObject({ phase: "suspended" });
    await done(client.stopInstance({ params, query: { ...long, force: true } }));
    expect(await now()).toMatchObject({ status: { phase: "stopped", memoryBytes: null } });
    await done(start());
    await done(suspend());
    await done(start({ cold: true }));
    expect((await now()).status).toMatchObject({ phase: "running", start: { mode: "cold" }, memoryBytes: null });
    await done(suspend());
    await done(client.deleteInstance({ params: { instance: id }, query: long }));
    await expectRefused(client.getInstance({ params: { instance: id } }), "not_found", id);
  });

  it("only what runs can be suspended, and what cannot be saved runs on", async () => {
    await create({ start: false });
    await expectRefused(suspend(), "instance_not_running", "stopped");
    await done(client.deleteInstance({ params, query: long }));
    await create({ labels: { "berth.fake/save-memory-error": "disk_full" } });
    await expectFailed(suspend(), "disk_full", "save-memory-error");
    expect(await now()).toMatchObject({
      spec: { power: "running" },
      status: { phase: "running", ready: true, memoryBytes: null },
    });
  });

  it("memory that is damaged is told of, kept until a cold start, and survives berthd", async () => {
    const { id } = await create();
    await done(suspend());
    await restartBerthd();
    expect((await now()).status.phase).toBe("suspended");
    writeFileSync(join(memoryFolder(id), "ram"), "something else");
    await expectFailed(start(), "memory_unusable", "ram");
    const { status } = await now();
    expect(status).toMatchObject({ phase: "suspended", ready: false });
    expect(status.reason).toContain("cannot be gone on from");
    await restartBerthd();
    expect((await now()).status).toEqual({ ...status, observedAt: expect.any(String) });
    await done(start({ cold: true }));
    expect((await now()).status).toMatchObject({ phase: "running", reason: "", memoryBytes: null });
  });

  it("a suspend that is cancelled leaves the machine running", async () => {
    await create({ labels: { "berth.fake/save-memory-block": "forever" } });
    const { operation } = await client.suspendInstance({ params, query: {} });
    await eventually(async () => {
      const { steps } = await client.getOperation({ params: { operation: operation.id } });
      expect(steps[0]).toMatchObject({ name: "suspend-machine", status: "running" });
    });
    await client.cancelOperation({ params: { operation: operation.id } });
    const ended = await client.waitOperation({ params: { operation: operation.id }, query: { timeout: 30 } });
    expect(ended.status).toBe("cancelled");
    await eventually(async () => {
      expect(await now()).toMatchObject({ spec: { power: "running" }, status: { phase: "running", ready: true } });
    });
  });

  const sleeps = { autosuspend: { idleSeconds: 1 } } as const;
  const asleep = () => eventually(async () => expect((await now()).status.phase).toBe("suspended"));
  const awake = () =>
    eventually(async () => expect((await now()).status).toMatchObject({ phase: "running", ready: true }));

  it("one that nobody needs sleeps, and whoever connects wakes it, also after berthd was restarted", async () => {
    const { status } = await create(sleeps);
    const { hostPort } = status.ports[0] ?? { hostPort: 0 };
    const knock = () => connect({ host: "127.0.0.1", port: hostPort }).on("error", () => undefined);
    await asleep();
    knock();
    await awake();
    expect((await now()).status.start).toMatchObject({ mode: "resumed" });
    const { items } = await client.listOperations({ query: {} });
    expect(items.slice(0, 2).map(({ type }) => type)).toEqual(["instance.start", "instance.suspend"]);
    await asleep();
    await restartBerthd();
    await eventually(
      () =>
        new Promise<void>((resolve, reject) => {
          connect({ host: "127.0.0.1", port: hostPort }).once("connect", resolve).once("error", reject);
        }),
    );
    await awake();
  });

  it("one that is needed stays awake: a connection, a session, or an end of its sleeping", async () => {
    await create({ ...sleeps, labels: { "berth.fake/connections": "1", "berth.fake/idle-after": "2500" } });
    const began = Date.now();
    await asleep();
    expect(Date.now() - began).toBeGreaterThan(2500);
    const following = new AbortController();
    const response = await fetch(`${berthd.url}/api/v1/instances/${name}/logs?follow=true`, {
      headers: { authorization: `Bearer ${berthd.token}` },
      signal: following.signal,
    });
    expect(response.status).toBe(200);
    await done(start());
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect((await now()).status.phase).toBe("running");
    following.abort();
    await asleep();
    await done(start());
    const { effects } = await client.changeInstance({ params, query: long, body: { autosuspend: null } });
    expect(effects).toEqual([{ field: "autosuspend", takes: "live" }]);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect((await now()).status.phase).toBe("running");
  });

  it("one that somebody connects to as it falls asleep stays awake", async () => {
    const { status } = await create({ ...sleeps, labels: { "berth.fake/save-memory-block": "1500" } });
    const { hostPort } = status.ports[0] ?? { hostPort: 0 };
    const suspending = await eventually(async () => {
      const { items } = await client.listOperations({ query: { unfinished: true } });
      const found = items.find(({ type }) => type === "instance.suspend");
      expect(found).toBeDefined();
      return found as Operation;
    });
    // The fake machine listens to nothing: somebody else does in its place, and is connected to.
    const server = createServer().listen(hostPort, "127.0.0.1");
    const client1 = connect({ host: "127.0.0.1", port: hostPort });
    const ended = await client.waitOperation({ params: { operation: suspending.id }, query: { timeout: 30 } });
    expect(ended).toMatchObject({ status: "succeeded" });
    expect(await now()).toMatchObject({ spec: { power: "running" }, status: { phase: "running", ready: true } });
    client1.destroy();
    server.close();
    await asleep();
  });

  it("one that cannot be woken turns those away who wait, and says why", async () => {
    const { id, status } = await create(sleeps);
    const { hostPort } = status.ports[0] ?? { hostPort: 0 };
    await asleep();
    rmSync(join(memoryFolder(id), "ram"));
    const closed = new Promise((resolve) => {
      connect({ host: "127.0.0.1", port: hostPort })
        .once("close", resolve)
        .on("error", () => undefined)
        .resume();
    });
    await closed;
    expect((await now()).status).toMatchObject({ phase: "suspended", reason: expect.stringContaining("ram") });
  });

  it("a program in it wakes it", async () => {
    await create(sleeps);
    await asleep();
    const files = await client.readFiles({ params, query: { path: "/" } }).catch((error: Error) => error);
    expect(String((files as Error).message ?? "")).not.toContain("suspended");
    await awake();
  });

  it("one that nothing could wake is refused", async () => {
    const body = { image, name, ...sleeps };
    await expectRefused(client.createInstance({ query: long, body }), "invalid_request", "no TCP port");
    await create();
    await expectRefused(
      client.changeInstance({ params, query: long, body: { ports: [], ...sleeps } }),
      "invalid_request",
      "no TCP port",
    );
  });
});
