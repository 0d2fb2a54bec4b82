import { readFileSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { ChangeInstanceInput, Client, CreateInstanceInput } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { parseQcow2Header } from "../../packages/daemon/src/storage/qcow2-header.ts";
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

  beforeAll(async () => {
    const scratch = await scratchDirectory("change");
    const store = await storeSettings(kind);
    env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", ...store };
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

  const create = async (asked: Partial<CreateInstanceInput> = {}) => {
    const { operation, instance } = await client.createInstance({ query: long, body: { image, name, ...asked } });
    expect(operation.error).toBeNull();
    return instance;
  };
  const change = (body: ChangeInstanceInput, query: { wait?: number; queue?: boolean } = long) =>
    client.changeInstance({ params, query, body });
  const now = () => client.getInstance({ params });
  const restart = async () => {
    expect((await client.restartInstance({ params, query: long })).operation.error).toBeNull();
  };
  /** What the program named env wrote when it was started last. */
  const environment = async (key: string) => {
    const response = await fetch(`${berthd.url}/api/v1/instances/${name}/logs`, {
      headers: { authorization: `Bearer ${berthd.token}` },
    });
    return (await response.text())
      .split("\n")
      .filter((line) => line.startsWith(`${key}=`))
      .at(-1);
  };

  it("a change says what it takes, is pending until the next start, and holds from then on", async () => {
    const made = await create({ command: ["/bin/env"], env: { A: "1", B: "2" }, labels: { team: "a" }, start: false });
    await client.startInstance({ params, query: long });
    const env = { BERTH_FAKE_EXIT_AFTER: "forever", A: "1", B: "2" };
    await change({ env });
    await restart();
    const { instance, operation, effects } = await change({
      cpus: 2,
      memoryMib: 128,
      env: { A: "9", B: null },
      labels: { team: null, tier: "front" },
      stopTimeoutMs: 5,
    });
    expect(operation).toMatchObject({ type: "instance.change", status: "succeeded" });
    expect(effects).toEqual([
      { field: "labels", takes: "live" },
      { field: "cpus", takes: "restart" },
      { field: "memoryMib", takes: "restart" },
      { field: "env", takes: "restart" },
      { field: "stopTimeoutMs", takes: "live" },
    ]);
    expect(instance).toMatchObject({ labels: { tier: "front" }, spec: { cpus: 2, memoryMib: 128, stopTimeoutMs: 5 } });
    expect(instance.generation).toBeGreaterThan(made.generation);
    expect(instance.status).toMatchObject({ phase: "running", pending: ["cpus", "memoryMib", "env"] });
    const [listed] = (await client.listInstances({ query: { label: "tier=front" } })).items;
    expect(listed?.status.pending).toEqual(["cpus", "memoryMib", "env"]);
    expect(await environment("A")).toBe("A=1");
    await restart();
    expect((await now()).status).toMatchObject({ phase: "running", pending: [] });
    expect(await environment("A")).toBe("A=9");
  });

  it("what is changed back is no longer pending, and one that is off has nothing pending", async () => {
    await create();
    await change({ cpus: 2 });
    expect((await now()).status.pending).toEqual(["cpus"]);
    const { effects } = await change({ cpus: 1 });
    expect(effects).toEqual([{ field: "cpus", takes: "restart" }]);
    expect((await now()).status.pending).toEqual([]);
    await change({ cpus: 2 });
    await client.stopInstance({ params, query: long });
    expect((await now()).status).toMatchObject({ phase: "stopped", pending: [] });
    await client.startInstance({ params, query: long });
    expect((await now()).status).toMatchObject({ phase: "running", pending: [] });
  });

  it("nothing changed is no new generation", async () => {
    const { generation } = await create();
    const { effects, operation } = await change({ cpus: 1, labels: { none: null } });
    expect({ effects, status: operation.status }).toEqual({ effects: [], status: "succeeded" });
    expect((await now()).generation).toBe(generation);
  });

  it("outlives a restart of berthd: what runs is told from what is wished for", async () => {
    await create();
    await change({ memoryMib: 256 });
    await berthd.kill();
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
    await eventually(async () => expect((await now()).status).toMatchObject({ phase: "running", ready: true }));
    expect((await now()).status.pending).toEqual(["memoryMib"]);
  });

  it("ports keep their host ports; others are reserved and published at once", async () => {
    const { status } = await create({ ports: [{ guestPort: 80 }] });
    const [kept] = status.ports;
    const wanted = await freePort();
    const { instance, effects } = await change({ ports: [{ guestPort: 80 }, { hostPort: wanted, guestPort: 81 }] });
    expect(effects).toEqual([{ field: "ports", takes: "live" }]);
    expect(instance.status.ports.map(({ hostPort }) => hostPort)).toEqual([kept?.hostPort, wanted]);
    expect(instance.status).toMatchObject({ pending: [], ready: true });
    const other = { image, name: "other", ports: [{ hostPort: wanted, guestPort: 80 }] };
    await expectFailed(client.createInstance({ query: long, body: other }), "port_taken", `${wanted}`);
    await restart();
    expect((await now()).status).toMatchObject({ phase: "running", pending: [] });
  });

  it("a host port below 1024 waits for the next start, and so do the others asked for with it", async () => {
    const { status } = await create({ ports: [{ guestPort: 80 }] });
    const { instance, effects } = await change({ ports: [{ hostPort: 79, guestPort: 79 }, { guestPort: 80 }] });
    expect(effects).toEqual([{ field: "ports", takes: "restart" }]);
    expect(instance.status).toMatchObject({ ports: [{ hostPort: 79 }, status.ports[0]], pending: ["ports"] });
  });

  it("a disk grows at once while it runs, else at the next start, and never shrinks", async () => {
    const { id } = await create({ diskMib: 1100 });
    const path = join(dataDir, "instances", id, "vm", "root.qcow2");
    const mebibytes = () => (parseQcow2Header(readFileSync(path).subarray(0, 65_536))?.sizeBytes ?? 0) / 2 ** 20;
    const { instance, effects } = await change({ diskMib: 1200 });
    expect(effects).toEqual([{ field: "diskMib", takes: "live" }]);
    expect(instance).toMatchObject({ spec: { disks: [{ name: "root", sizeMib: 1200 }] }, status: { pending: [] } });
    expect(mebibytes()).toBe(1200);
    await expectRefused(change({ diskMib: 1199 }), "invalid_request", "at least 1200");
    await client.stopInstance({ params, query: long });
    const later = await change({ diskMib: 1300 });
    expect(later.effects).toEqual([{ field: "diskMib", takes: "restart" }]);
    expect(mebibytes()).toBe(1200);
    await client.startInstance({ params, query: long });
    expect(mebibytes()).toBe(1300);
  });

  it("whose disk cannot grow is taken back, ports that were published already included", async () => {
    const made = await create({ ports: [{ guestPort: 80 }], labels: { "berth.fake/grow-disk-error": "internal" } });
    const { operation } = await change({ diskMib: 2048, ports: [], cpus: 2 });
    expect(operation).toMatchObject({ error: { code: "internal" } });
    const { spec, status } = await now();
    expect(spec).toEqual(made.spec);
    expect(status).toMatchObject({ ports: made.status.ports, pending: [], ready: true });
    const taken = { image, name: "other", ports: [{ hostPort: made.status.ports[0]?.hostPort ?? 0, guestPort: 80 }] };
    await expectFailed(
      client.createInstance({ query: long, body: taken }),
      "port_taken",
      `${status.ports[0]?.hostPort}`,
    );
  });

  it("that cannot be is refused, and nothing of it is made", async () => {
    await create({ name: "other", ports: [{ hostPort: await freePort(), guestPort: 80 }] });
    const before = await create({ env: { A: "1" } });
    const [node] = (await client.listNodes()).items;
    await expectRefused(change({ cpus: (node?.cpus ?? 0) + 1, env: { A: "2" } }), "not_enough_resources", "CPUs");
    await expectRefused(change({ name: "other", env: { A: "2" } }), "name_taken", "other");
    const port = { hostPort: await freePort(), guestPort: 80 };
    await expectRefused(change({ ports: [port, port] }), "port_taken", "twice");
    const stale = client.changeInstance({ params, body: { cpus: 1 } }, { ifMatch: before.generation + 1 });
    await expectRefused(stale, "precondition_failed", `${before.generation}`);
    await expectRefused(change({ ports: [{ ...port, guestPort: 0 }] }), "invalid_request", "guestPort");
    expect(await now()).toMatchObject({ generation: before.generation, spec: before.spec });
  });

  it("that fails is taken back, and one that waited behind it stays", async () => {
    const taken = await freePort();
    await create({ name: "other", ports: [{ hostPort: taken, guestPort: 80 }] });
    const made = await create({
      env: { A: "1", BERTH_FAKE_READY_AFTER: "1" },
      labels: { "berth.fake/start-block": "700" },
    });
    // Both wait their turn behind a restart.
    const { operation: holder } = await client.restartInstance({ params });
    const queue = { queue: true };
    const first = await change({ cpus: 2, env: { A: "2" }, ports: [{ hostPort: taken, guestPort: 81 }] }, queue);
    const second = await change({ memoryMib: 128, env: { B: "3" } }, queue);
    expect(second.instance.spec).toMatchObject({ cpus: 2, memoryMib: 128, env: { A: "2", B: "3" } });
    expect((await client.waitForOperation(holder.id)).status).toBe("succeeded");
    expect(await client.waitForOperation(first.operation.id)).toMatchObject({ error: { code: "port_taken" } });
    expect((await client.waitForOperation(second.operation.id)).status).toBe("succeeded");
    const { spec, status } = await now();
    expect(spec).toMatchObject({ cpus: 1, memoryMib: 128, ports: [] });
    expect(spec.env).toEqual({ ...made.spec.env, B: "3" });
    expect(status).toMatchObject({ phase: "running", ready: true, ports: [] });
    expect(status.pending).not.toContain("ports");
  });

  it("that is cancelled while it waits is taken back", async () => {
    const made = await create({ labels: { "berth.fake/start-block": "700" } });
    const { operation: holder } = await client.restartInstance({ params });
    const { operation } = await change({ cpus: 2, name: "shop" }, { queue: true });
    await client.cancelOperation({ params: { operation: operation.id } });
    expect((await client.waitForOperation(operation.id)).status).toBe("cancelled");
    expect((await client.waitForOperation(holder.id)).status).toBe("succeeded");
    expect((await now()).spec).toMatchObject({ cpus: made.spec.cpus });
  });

  it("another name is known at once, and to the guest from the next start on", async () => {
    const { id } = await create({ command: ["/bin/env"], env: { BERTH_FAKE_EXIT_AFTER: "forever" } });
    const { instance } = await change({ name: "shop" });
    expect(instance).toMatchObject({ id, name: "shop", status: { pending: ["name"] } });
    await expectRefused(now(), "not_found", name);
    const renamed = { instance: "shop" };
    expect((await client.restartInstance({ params: renamed, query: long })).operation.error).toBeNull();
    expect((await client.getInstance({ params: renamed })).status.pending).toEqual([]);
    await client.changeInstance({ params: renamed, query: long, body: { name } });
    expect((await now()).status.pending).toEqual(["name"]);
    expect(await environment("HOSTNAME")).toBe("HOSTNAME=shop");
  });

  it("sent twice with one key is made once, and answered the same", async () => {
    const { generation } = await create();
    const key = { idempotencyKey: `change-${kind}` };
    const ask = () => client.changeInstance({ params, query: long, body: { cpus: 2 } }, key);
    const [first, second] = [await ask(), await ask()];
    expect(second).toEqual(first);
    expect((await now()).generation).toBe(generation + 1);
  });
});
