import { truncateSync } from "node:fs";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import type { Client, CreateInstanceInput, Instance } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { accelerated, auditQemu, removeRules } from "../faults/audit-qemu.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { eventually } from "../support/eventually.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";

const long = { wait: 300 } as const;
const image = busyboxImage;
const memoryMib = 96;
const pool = "spare";

describe.each(whoRunsBerthd)("real machines of a berthd run by $who", ({ ordinaryUser }) => {
  let dataDir: string;
  let berthd: Berthd;
  let client: Client;

  beforeAll(async () => {
    const scratch = await scratchDirectory("clone");
    dataDir = join(scratch, "data");
    berthd = await startBerthd({ dataDir, ordinaryUser, env: { BERTH_LOG_LEVEL: "warn", BERTH_TEMPLATES: "auto" } });
    client = berthd.client;
    await buildBusybox(client, scratch);
    await accelerated(dataDir);
  });

  afterAll(async () => {
    await berthd?.stop();
    if (!ordinaryUser) removeRules(dataDir);
  });

  afterEach(async () => {
    for (const { id } of (await client.listInstances()).items)
      await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
    await settled(client);
  });

  async function launch(more: Partial<CreateInstanceInput> = {}): Promise<Instance> {
    const { instance, operation } = await client.createInstance({ query: long, body: { image, memoryMib, ...more } });
    expect(operation.error).toBeNull();
    expect(instance.status).toMatchObject({ phase: "running", ready: true });
    return instance;
  }

  async function sh({ id }: Instance, script: string): Promise<string> {
    const session = client.exec(id, { command: ["/bin/sh", "-c", script] });
    const chunks: Uint8Array[] = [];
    for await (const { data } of session.output) chunks.push(data);
    expect(await session.exit).toBe(0);
    return Buffer.concat(chunks).toString();
  }

  const ready = () =>
    eventually(async () => {
      const [template] = (await client.listTemplates()).items;
      expect(template).toMatchObject({ state: "ready" });
      return template;
    });

  it("a clone is what was asked for: disk, ports, environment, command, names, and a clock that is right", async () => {
    const first = await launch({ ports: [{ guestPort: 80 }] });
    expect(first.status.start?.mode).toBe("cold");
    const template = await ready();
    // Sparse: of the guest's memory only what it has touched.
    expect(template?.sizeBytes).toBeLessThan(memoryMib * 2 ** 20);
    const asked = { name: "second", diskMib: 3072, env: { COLOUR: "blue" }, ports: [{ guestPort: 81 }] };
    const command = ["/bin/busybox", "httpd", "-f", "-p", "81", "-h", "/etc"];
    const second = await launch({ ...asked, command });
    expect(second.status.start).toEqual({ mode: "warm", reason: `cloned from the template ${template?.id}` });
    const page = `http://127.0.0.1:${second.status.ports[0]?.hostPort}/hostname`;
    expect(await (await fetch(page)).text()).toBe("second\n");
    const words = await sh(
      second,
      "b=/bin/busybox; $b df -m /; $b hostname; echo $COLOUR; $b date +%s; $b ifconfig eth0",
    );
    const [, size = "0"] = /\s(\d+)\s+\d+\s+\d+\s+\d+%\s+\/$/m.exec(words) ?? [];
    expect(Number(size)).toBeGreaterThan(2700);
    expect(words).toContain("\nsecond\nblue\n");
    const [, seconds = "0"] = /^(\d{10})$/m.exec(words) ?? [];
    expect(Math.abs(Number(seconds) - Date.now() / 1000)).toBeLessThan(60);
    const macs = await Promise.all(
      [first, second].map((one) => sh(one, "/bin/busybox cat /sys/class/net/eth0/address")),
    );
    expect(new Set(macs).size).toBe(2);
    // What it writes is its own, and lasts; what was written to needs the memory that wrote it.
    await sh(second, "echo kept > /kept");
    await client.stopInstance({ params: { instance: second.id }, query: long });
    const again = await client.startInstance({ params: { instance: second.id }, query: long });
    expect(again.operation.error).toBeNull();
    expect(again.instance.status.start?.reason).toContain("its disk has been written to");
    expect(await sh(second, "/bin/busybox cat /kept")).toBe("kept\n");
    if (!ordinaryUser) await auditQemu(client, dataDir, berthd.pid);
  });

  it("a disk no larger than its image is enough, and a program that ends at once is told with its exit code", async () => {
    await launch({ warm: "require" });
    const { instance, operation } = await client.createInstance({
      query: long,
      body: { image, memoryMib, warm: "require", diskMib: 16, command: ["/bin/sh", "-c", "echo last words; exit 3"] },
    });
    expect(operation.error).toBeNull();
    const ended = await eventually(async () => {
      const { status } = await client.getInstance({ params: { instance: instance.id } });
      expect(status.phase).toBe("stopped");
      return status;
    });
    expect(ended).toMatchObject({ exitCode: 3, start: { mode: "warm" } });
    expect(await text(await client.instanceLogs({ params: { instance: instance.id } }))).toContain("last words");
  });

  it("a template cut short, damaged or gone is refused; the launch boots and says so", async () => {
    await launch({ warm: "require" });
    const [template] = (await client.listTemplates()).items;
    truncateSync(join(dataDir, "templates", template?.id ?? "", "memory/state"), 1000);
    const { status } = await launch();
    expect(status.start).toMatchObject({ mode: "cold", reason: expect.stringContaining("could not be gone on from") });
    await ready();
    await settled(client);
    const [next] = (await client.listTemplates()).items;
    expect(next?.id).not.toBe(template?.id);
    expect((await launch()).status.start?.mode).toBe("warm");
  });

  it(`a pool's machine goes on as what was asked for${ordinaryUser ? ", but for ports" : ""}`, async () => {
    await launch({ warm: "require" });
    await client.createPool({ body: { name: pool, image, memoryMib, size: 2 } });
    const full = await eventually(async () => {
      const found = await client.getPool({ params: { pool } });
      expect(found).toMatchObject({ ready: 2, filling: 0 });
      return found;
    });
    expect(full.memoryBytes).toBeGreaterThan(2 ** 20);
    const asked = { name: "claimed", diskMib: 2048, env: { COLOUR: "red" } };
    const claimed = await launch(asked);
    expect(claimed.status.start).toEqual({ mode: "pool", reason: `from the pool ${pool}` });
    const words = await sh(claimed, "b=/bin/busybox; $b df -m /; $b hostname; echo $COLOUR; $b date +%s");
    const [, size = "0"] = /\s(\d+)\s+\d+\s+\d+\s+\d+%\s+\/$/m.exec(words) ?? [];
    expect(Number(size)).toBeGreaterThan(1800);
    expect(words).toContain("\nclaimed\nred\n");
    const [, seconds = "0"] = /^(\d{10})$/m.exec(words) ?? [];
    expect(Math.abs(Number(seconds) - Date.now() / 1000)).toBeLessThan(60);
    const open = await launch({ ports: [{ guestPort: 80 }] });
    if (ordinaryUser) expect(open.status.start?.reason).toContain(`not from the pool ${pool}`);
    else expect(open.status.start?.mode).toBe("pool");
    const page = `http://127.0.0.1:${open.status.ports[0]?.hostPort}/bin/busybox`;
    expect((await fetch(page, { method: "HEAD" })).status).toBe(200);
    const { operation } = await client.deletePool({ params: { pool }, query: long });
    expect(operation.error).toBeNull();
    if (!ordinaryUser) await auditQemu(client, dataDir, berthd.pid);
  });
});
