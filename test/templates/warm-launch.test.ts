import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { mkdir, rm as remove, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Client, CreateInstanceInput, Instance, Template } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { eventually } from "../support/eventually.ts";
import { storeSettings } from "../support/postgres.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";

const image = "localhost/any:latest";
const long = { wait: 60 } as const;

describe.each(["sqlite", "postgres"] as const)("warm launches with %s", (kind) => {
  let scratch: string;
  let dataDir: string;
  let env: Record<string, string>;
  let berthd: Berthd;
  let client: Client;

  beforeAll(async () => {
    scratch = await scratchDirectory("warm");
    dataDir = join(scratch, "data");
    const store = await storeSettings(kind);
    env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_TEMPLATES: "auto", ...store };
    await start();
    await build(image, "one");
  });

  afterAll(() => berthd?.stop());

  afterEach(async () => {
    await settled(client);
    await audit(client, dataDir);
    for (const { id } of (await client.listInstances()).items)
      await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
    await settled(client);
    for (const { id } of (await client.listTemplates()).items)
      await client.deleteTemplate({ params: { template: id }, query: long });
    await audit(client, dataDir);
  });

  async function start() {
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
  }

  async function build(reference: string, content: string): Promise<void> {
    const path = join(scratch, content);
    await mkdir(path, { recursive: true });
    await writeFile(join(path, "Dockerfile"), `FROM scratch\nCOPY text /\nCMD ["/none"]\n`);
    await writeFile(join(path, "text"), content);
    const body = { source: { type: "directory", path }, reference } as const;
    expect((await client.buildImage({ query: long, body })).operation.error).toBeNull();
  }

  async function launch(more: Partial<CreateInstanceInput> = {}): Promise<Instance> {
    const { instance, operation } = await client.createInstance({ query: long, body: { image, ...more } });
    expect(operation.error).toBeNull();
    expect(instance.status).toMatchObject({ phase: "running", ready: true });
    return instance;
  }

  /** The only template there is, once it is there. */
  async function theTemplate(): Promise<Template> {
    const template = await eventually(async () => {
      const [one, ...others] = (await client.listTemplates()).items;
      expect(others).toEqual([]);
      expect(one?.state).toBe("ready");
      return one;
    });
    if (!template) throw new Error("there is no template");
    return template;
  }

  const events = async (subject: string) =>
    (await client.listEvents({ query: { subject, limit: 500 } })).items.map(({ type }) => type);

  it("the first of a shape boots and has its template made; the next are cloned, whatever else differs", async () => {
    const first = await launch({ memoryMib: 256 });
    expect(first.status.start).toEqual({ mode: "cold", reason: "there was no template of this shape yet" });
    const template = await theTemplate();
    expect(template).toMatchObject({ image, cpus: 1, memoryMib: 256, disks: 1, interfaces: 1, uses: 0 });
    expect(template.sizeBytes).toBeGreaterThan(0);
    const differs = { diskMib: 4096, env: { A: "b" }, ports: [{ guestPort: 80 }], labels: { a: "b" }, command: ["/x"] };
    const second = await launch({ memoryMib: 256, ...differs });
    expect(second.status.start).toEqual({ mode: "warm", reason: `cloned from the template ${template.id}` });
    const { uses, lastUsedAt } = await client.getTemplate({ params: { template: template.id } });
    expect([uses, lastUsedAt]).toEqual([1, expect.any(String)]);
    expect(await events(template.id)).toEqual(["template.created", "template.ready"]);
    // Another shape.
    expect((await launch({ memoryMib: 512 })).status.start?.mode).toBe("cold");
    await eventually(async () => {
      const { items } = await client.listTemplates();
      expect(items.map(({ memoryMib, state }) => [memoryMib, state])).toEqual([
        [512, "ready"],
        [256, "ready"],
      ]);
    });
  });

  it("boots when that is asked for, and makes no template for it", async () => {
    const { status } = await launch({ warm: "never" });
    expect(status.start).toEqual({ mode: "cold", reason: "a cold start was asked for" });
    await launch({ warm: "require", cpus: 2 });
    // Whatever the first launch would have set off had begun before the second.
    expect((await client.listTemplates()).items.map(({ cpus }) => cpus)).toEqual([2]);
  });

  it("waits for the template that it requires; several that require the same wait for one", async () => {
    const made = await Promise.all([1, 2, 3].map(() => launch({ warm: "require" })));
    const { id } = await theTemplate();
    for (const { status } of made) expect(status.start?.reason).toBe(`cloned from the template ${id}`);
    const { items } = await client.listOperations({ query: { target: id } });
    expect(items.map(({ type }) => type)).toEqual(["template.create"]);
  });

  it("says why it is only booted when it is started again", async () => {
    const { id } = await launch({ warm: "require" });
    const disk = join(dataDir, "instances", id, "vm/root.qcow2");
    await client.stopInstance({ params: { instance: id }, query: long });
    const again = await client.startInstance({ params: { instance: id }, query: long });
    // A fake guest writes nothing: its disk is as it was.
    expect(again.instance.status.start?.mode).toBe("warm");
    await client.stopInstance({ params: { instance: id }, query: long });
    execFileSync("qemu-io", ["-f", "qcow2", "-c", "write 0 4096", disk]);
    const later = await client.startInstance({ params: { instance: id }, query: long });
    expect(later.instance.status.start).toEqual({
      mode: "cold",
      reason: "its disk has been written to: only a first start can go on from a template",
    });
  });

  it("a damaged template is refused and dropped: the launch boots, or fails where it must not", async () => {
    await launch({ warm: "require" });
    const bad = await theTemplate();
    truncateSync(join(dataDir, "templates", bad.id, "memory/ram"), 1);
    const { status } = await launch();
    expect(status.start).toMatchObject({
      mode: "cold",
      reason: expect.stringContaining(`template ${bad.id} could not`),
    });
    await settled(client);
    const next = await theTemplate();
    expect(next.id).not.toBe(bad.id);
    truncateSync(join(dataDir, "templates", next.id, "memory/ram"), 1);
    const refused = await client.createInstance({ query: long, body: { image, warm: "require" } });
    expect(refused.operation.error?.code).toBe("memory_unusable");
    await settled(client);
    expect((await client.listTemplates()).items).toEqual([]);
    expect((await launch({ warm: "require" })).status.start?.mode).toBe("warm");
  });

  it("with its process: what that was started with is shared, and so is its disk; another environment is another template", async () => {
    const asked = { warm: "app", env: { MODE: "fast" }, ports: [{ guestPort: 80 }], diskMib: 64 } as const;
    const first = await launch({ ...asked, ports: [{ guestPort: 80 }] });
    const template = await theTemplate();
    expect(first.status.start?.reason).toBe(`cloned from the template ${template.id}`);
    expect(template.app).toMatchObject({ env: { MODE: "fast" }, ports: [80], diskMib: 64 });
    const disks = [join(dataDir, "templates", template.id), join(dataDir, "instances", first.id, "vm")];
    const [kept, copy] = disks.map((folder) => readFileSync(join(folder, "root.qcow2")));
    expect(copy?.equals(kept ?? Buffer.alloc(0))).toBe(true);
    await launch({ ...asked, ports: [{ guestPort: 80 }], env: { MODE: "slow" } });
    const all = (await client.listTemplates()).items;
    expect(all.map(({ app, uses }) => [app?.env.MODE, uses])).toEqual([
      ["slow", 1],
      ["fast", 1],
    ]);
    // Another disk than the template's would not fit its memory: so it is refused, not booted.
    const { instance } = await client.createInstance({
      query: long,
      body: { image, ...asked, ports: [{ guestPort: 80 }], start: false },
    });
    execFileSync("qemu-io", [
      "-f",
      "qcow2",
      "-c",
      "write 0 4096",
      join(dataDir, "instances", instance.id, "vm/root.qcow2"),
    ]);
    const started = await client.startInstance({ params: { instance: instance.id }, query: long });
    expect(started.operation.error?.code).toBe("template_failed");
  });

  it("with its process: one that ends before it is ready makes no template, and fails", async () => {
    const body = { image, warm: "app", env: { BERTH_FAKE_EXIT_CODE: "3" } } as const;
    const { operation } = await client.createInstance({ query: long, body });
    expect(operation.error).toMatchObject({ code: "template_failed", detail: expect.stringContaining("exit code 3") });
    expect((await client.listTemplates()).items).toMatchObject([{ state: "failed" }]);
  });

  it("one that cannot be made says why, is not tried again by itself at once, and is when it is required", async () => {
    const templates = join(dataDir, "templates");
    if (existsSync(templates)) expect(readdirSync(templates)).toEqual([]);
    await berthd.stop();
    await remove(templates, { recursive: true, force: true });
    writeFileSync(templates, "");
    await start();
    await launch();
    const failed = await eventually(async () => {
      const [one] = (await client.listTemplates()).items;
      expect(one?.state).toBe("failed");
      return one;
    });
    expect(failed?.reason).not.toBe("");
    const second = await launch();
    expect(second.status.start?.reason).toContain("could not be made");
    await settled(client);
    const { items } = await client.listOperations({ query: { target: failed?.id } });
    expect(items).toHaveLength(1);
    await remove(templates, { recursive: true, force: true });
    expect((await launch({ warm: "require" })).status.start?.mode).toBe("warm");
    expect((await theTemplate()).id).toBe(failed?.id);
  });

  it("goes with its image, and with what is asked of a prune; what was cloned goes on", async () => {
    await build("localhost/other:latest", "two");
    const other = await launch({ image: "localhost/other:latest", warm: "require" });
    const kept = await launch({ warm: "require" });
    expect((await client.listTemplates()).items).toHaveLength(2);
    await client.deleteInstance({ params: { instance: other.id }, query: { ...long, force: true } });
    await client.deleteImage({ params: { image: other.imageId }, query: long });
    const { id } = await theTemplate();
    const asked = { unusedForMs: 0 };
    const dry = await client.pruneTemplates({ body: { ...asked, dryRun: true } });
    expect(dry.items).toMatchObject([{ template: { id }, operationId: null }]);
    expect((await client.pruneTemplates({ body: {} })).items).toEqual([]);
    const [pruned] = (await client.pruneTemplates({ body: asked })).items;
    await client.waitForOperation(pruned?.operationId ?? "");
    expect((await client.listTemplates()).items).toEqual([]);
    expect((await client.getInstance({ params: { instance: kept.id } })).status.ready).toBe(true);
  });
});
