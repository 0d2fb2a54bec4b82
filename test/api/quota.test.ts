import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ChangeQuota, type Client, createClient } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { storeSettings } from "../support/postgres.ts";
import { expectRefused } from "../support/refusals.ts";
import { berthOf } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";

const image = "localhost/any:latest";
const long = { wait: 60 } as const;

describe.each(["sqlite", "postgres"] as const)("with %s", (kind) => {
  let scratch: string;
  let berthd: Berthd;
  let admin: Client;

  beforeAll(async () => {
    scratch = await scratchDirectory("quota");
    const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", ...(await storeSettings(kind)) };
    berthd = await startBerthd({ dataDir: join(scratch, "data"), env });
    admin = berthd.client;
    await mkdir(join(scratch, "context"));
    await writeFile(join(scratch, "context/Dockerfile"), 'FROM scratch\nCOPY Dockerfile /\nCMD ["/none"]\n');
  });
  afterAll(() => berthd?.stop());

  /** A project with an image and these limits, and a client that works in it. */
  async function makeProject(project: string, limits: ChangeQuota) {
    await admin.createProject({ body: { name: project } });
    const source = { type: "directory", path: join(scratch, "context") } as const;
    await admin.buildImage({ query: { ...long, project }, body: { source, reference: image } });
    await admin.changeQuota({ params: { project }, body: limits });
    const { secret } = await admin.createToken({ query: { project }, body: { name: "own", role: "operator" } });
    return createClient({ url: berthd.url, token: secret });
  }

  const usedBy = async (project: string) => (await admin.getQuota({ params: { project } })).used;
  const off = { image, start: false, memoryMib: 96 } as const;

  it("many who ask at once get no more than there may be, and what is deleted can be had again", async () => {
    const client = await makeProject("crowd", { instances: 4 });
    const asked = await Promise.allSettled(Array.from({ length: 16 }, () => client.createInstance({ body: off })));
    const made = asked.flatMap((one) => (one.status === "fulfilled" ? [one.value.instance.id] : []));
    expect(made).toHaveLength(4);
    for (const one of asked)
      if (one.status === "rejected") expect(one.reason).toMatchObject({ code: "quota_exceeded", status: 422 });
    expect(await usedBy("crowd")).toMatchObject({ instances: 4, cpus: 4, memoryMib: 384 });
    await expectRefused(client.createInstance({ body: off }), "quota_exceeded", /may have 4 instances.*would have 5/);
    for (const id of made)
      await client.waitForOperation((await client.listOperations({ query: { target: id } })).items[0]?.id ?? "");
    await client.deleteInstance({ params: { instance: made[0] ?? "" }, query: { ...long, force: true } });
    await client.createInstance({ body: off, query: long });
    expect((await usedBy("crowd")).instances).toBe(4);
  });

  it("each kind of growth is held to its limit, and shrinking is not", async () => {
    const client = await makeProject("kinds", { cpus: 2, memoryMib: 512, diskMib: 2048, ports: 1, images: 1 });
    const body = { ...off, name: "web", memoryMib: 256, cpus: 1, ports: [{ guestPort: 80 }] };
    await client.createInstance({ body, query: long });
    const params = { instance: "web" };
    const change = (more: NonNullable<Parameters<typeof client.changeInstance>[0]["body"]>) =>
      client.changeInstance({ params, body: more, query: long });
    await expectRefused(change({ memoryMib: 768 }), "quota_exceeded", "512 MiB of memory");
    await expectRefused(change({ diskMib: 4096 }), "quota_exceeded", "2048 MiB of disks");
    await expectRefused(
      change({ ports: [{ guestPort: 80 }, { guestPort: 81 }] }),
      "quota_exceeded",
      "1 published ports",
    );
    await expectRefused(client.createInstance({ body: { ...off, cpus: 2 } }), "quota_exceeded", "2 CPUs");
    await expectRefused(client.createInstance({ body: { ...off, diskMib: 2048 } }), "quota_exceeded", "MiB of disks");
    await expectRefused(client.createPool({ body: { name: "spare", image, size: 3 } }), "quota_exceeded", "CPUs");
    await expectRefused(client.pullImage({ body: { reference: "nginx" } }), "quota_exceeded", "1 images");
    expect(await usedBy("kinds")).toEqual({
      instances: 1,
      cpus: 1,
      memoryMib: 256,
      diskMib: 1024,
      ports: 1,
      images: 1,
    });
    // Below what there is: nothing is taken away, and less of it can be asked for.
    await admin.changeQuota({ params: { project: "kinds" }, body: { memoryMib: 100, ports: 0 } });
    await change({ memoryMib: 200 });
    await change({ env: { A: "b" } });
    await expectRefused(change({ memoryMib: 201 }), "quota_exceeded", "100 MiB");
    await admin.changeQuota({ params: { project: "kinds" }, body: { memoryMib: null } });
    await change({ memoryMib: 300 });
  });

  it("forks, snapshots and archives are no way around it", async () => {
    const client = await makeProject("ways", {});
    await client.createInstance({ body: { image, name: "web", memoryMib: 96 }, query: long });
    await client.createSnapshot({ body: { instance: "web", name: "point" }, query: long });
    await client.stopInstance({ params: { instance: "web" }, query: { ...long, force: true } });
    const { archive } = await client.exportInstance({ params: { instance: "web" }, query: long });
    await client.startInstance({ params: { instance: "web" }, query: long });
    await admin.changeQuota({ params: { project: "ways" }, body: { instances: 2 } });
    await expectRefused(
      client.forkInstance({ params: { instance: "web" }, body: { count: 2 } }),
      "quota_exceeded",
      "would have 3",
    );
    await admin.changeQuota({ params: { project: "ways" }, body: { instances: 1 } });
    const launch = client.launchSnapshot({ params: { snapshot: "point" }, body: { name: "web2" } });
    await expectRefused(launch, "quota_exceeded", "would have 2");
    const imported = await client.importInstance({
      params: { archive: archive.id },
      query: long,
      body: { name: "again" },
    });
    expect(imported.operation).toMatchObject({ status: "failed", error: { code: "quota_exceeded" } });
    expect((await client.listInstances()).items.map(({ name }) => name)).toEqual(["web"]);
    expect((await client.listImages()).items).toHaveLength(1);
  });

  it("the command line sets limits and shows use", async () => {
    await makeProject("shown", {});
    const cli = berthOf(berthd);
    expect(await cli.berth("project", "set", "shown", "--instances", "10", "--memory", "16G")).toMatch(
      /Instances: +0 of 10\nCPUs: +0\nMemory: +0 MiB of 16 GiB\n/,
    );
    expect(await cli.berth("project", "set", "shown", "--memory", "none")).toMatch(/Memory: +0 MiB\n/);
    expect(await cli.berth("project", "show", "shown")).toMatch(/Images: +1\n/);
    expect((await cli.run(["project", "set", "shown"])).code).toBe(2);
  });
});
