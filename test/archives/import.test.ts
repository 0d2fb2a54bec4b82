import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import type { Instance } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type TarItem, writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import type { Berthd } from "../support/berthd.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { freePort } from "../support/ports.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { fakeBerthd, image } from "./fake-world.ts";

const long = { wait: 60 } as const;

describe.each(whoRunsBerthd)("berthd as $who", ({ ordinaryUser }) => {
  let scratch: string;
  let berthd: Berthd;
  let cli: RunBerth;
  let file: string;
  let original: string;

  beforeAll(async () => {
    scratch = await scratchDirectory("import");
    berthd = await fakeBerthd(scratch, { ordinaryUser });
    cli = berthOf(berthd);
    file = join(scratch, "web.berth");
    const ports = [{ hostPort: await freePort(), guestPort: 80 }];
    const body = { image, name: "web", env: { PASSWORD: "hunter2" }, labels: { team: "a" }, ports, start: false };
    const { instance, operation } = await berthd.client.createInstance({ query: long, body });
    expect(operation.error).toBeNull();
    await cli.berth("export", "web", "-o", file);
    original = join(scratch, "original.qcow2");
    cpSync(diskOf(instance.id), original);
  });
  afterAll(() => berthd?.stop());
  afterEach(async () => {
    const { client } = berthd;
    for (const { id, name } of await instances())
      if (name !== "web") await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
    for (const { id } of await archives()) await client.deleteArchive({ params: { archive: id }, query: long });
    // An image that came with an import stays for as long as a snapshot stands on it.
    for (const { id } of (await client.listSnapshots({ query: {} })).items)
      await client.deleteSnapshot({ params: { snapshot: id }, query: long });
  });

  const diskOf = (id: string) => join(scratch, "data/instances", id, "vm/root.qcow2");
  const instances = async () => (await berthd.client.listInstances({ query: {} })).items;
  const archives = async () => (await berthd.client.listArchives({ query: {} })).items;
  const imported = async () =>
    (await berthd.client.listImages({ query: {} })).items.filter(({ source }) => source.type === "import");
  const show = (name: string) => berthd.client.getInstance({ params: { instance: name } });

  /** Announces these bytes as an archive, and sends them. */
  async function send(bytes: Uint8Array, name = "hostile.berth"): Promise<string> {
    const beginning = createHash("sha256").update(bytes.subarray(0, 65_536)).digest("hex");
    const { id } = await berthd.client.createArchive({ body: { name, sizeBytes: bytes.length, beginning } });
    await berthd.client.writeArchive({ params: { archive: id }, body: bytes });
    return id;
  }

  test("import makes the instance anew: another one, with the same content, on disks of its own", async () => {
    const ran = await cli.run(["import", file, "--name", "again"]);
    expect(ran, ran.stderr).toMatchObject({ code: 0, stdout: "again\n" });
    const [web, again] = [await show("web"), await show("again")];
    expect(again.id).not.toBe(web.id);
    expect(again).toMatchObject({ image, labels: { team: "a" }, status: { phase: "running", ready: true } });
    const { ports: _, power: __, ...spec } = web.spec;
    expect(again.spec).toMatchObject(spec);
    // Its port is the other's, which has it although it is off.
    expect(ran.stderr).toMatch(/port \d+ of 127\.0\.0\.1 is taken here: a free one is published instead/);
    expect(again.status.ports[0]?.hostPort).not.toBe(web.status.ports[0]?.hostPort);
    const [made, source] = [statSync(diskOf(again.id)), statSync(diskOf(web.id))];
    expect(made.mode & 0o777).toBe(0o600);
    if (!ordinaryUser) expect(made.uid).not.toBe(source.uid);
    const compare = ["compare", "-U", "-f", "qcow2", "-F", "qcow2", original, diskOf(again.id)];
    expect(execFileSync("qemu-img", compare, { encoding: "utf8" })).toContain("identical");
    const info = execFileSync("qemu-img", ["info", "-U", "--output=json", diskOf(again.id)], { encoding: "utf8" });
    expect(JSON.parse(info)["backing-filename"]).toBeUndefined();
    expect(await archives()).toEqual([]);
    // It lives as any other, and its image goes with it.
    await cli.berth("stop", "again");
    await cli.berth("start", "again");
    expect((await show("again")).status).toMatchObject({ ready: true, start: { mode: "cold" } });
    const [own] = await imported();
    expect(await cli.berth("image", "show", own?.id ?? "")).toContain(`import ${image}`);
    const launch = berthd.client.createInstance({ body: { image: own?.id ?? "" } });
    await expectRefused(launch, "unsupported_image", "no content of its own");
    await cli.berth("rm", "--force", "again");
    expect(await imported()).toEqual([]);
  });

  test("an imported instance can be snapshotted, restored, launched from and exported again", async () => {
    const { client } = berthd;
    await cli.berth("import", file, "--name", "again", "--no-start");
    const { snapshot, operation } = await client.createSnapshot({
      query: long,
      body: { instance: "again", name: "one" },
    });
    expect(operation.error).toBeNull();
    const params = { snapshot: snapshot.id };
    expect((await client.restoreSnapshot({ params, query: long, body: {} })).operation.error).toBeNull();
    const launched = await client.launchSnapshot({ params, query: long, body: { name: "child" } });
    expect(launched.operation.error).toBeNull();
    expect(launched.instance.status).toMatchObject({ ready: true });
    await cli.berth("export", "again", "-o", join(scratch, "again.berth"));
    await cli.berth("rm", "--force", "again", "child");
    await client.deleteSnapshot({ params, query: long });
    expect(await cli.berth("import", join(scratch, "again.berth"))).toBe("again\n");
  });

  test("a snapshot is exported as the instance was then, whatever it is now", async () => {
    const { client } = berthd;
    const params = { instance: "web" };
    const body = { ...params, name: "then" };
    const { snapshot } = await client.createSnapshot({ query: long, body });
    const { id } = await client.getInstance({ params });
    execFileSync("qemu-io", ["-f", "qcow2", "-c", "write -P 7 0 64k", diskOf(id)]);
    const then = join(scratch, "then.berth");
    expect(await cli.berth("export", "--snapshot", "then", "-o", then)).toBe(`${then}\n`);
    await cli.berth("import", then, "--name", "again", "--no-start");
    const again = await show("again");
    const compare = ["compare", "-f", "qcow2", "-F", "qcow2", original, diskOf(again.id)];
    expect(execFileSync("qemu-img", compare, { encoding: "utf8" })).toContain("identical");
    // Negative control: the instance itself is another by now.
    expect(() => execFileSync("qemu-img", [...compare.slice(0, -1), diskOf(id)], { stdio: "pipe" })).toThrow();
    await client.restoreSnapshot({ params: { snapshot: "then" }, query: long, body: { discard: true } });
    await client.deleteSnapshot({ params: { snapshot: snapshot.id }, query: long });
  });

  test("the memory of a snapshot stays behind: what is imported boots", async () => {
    const { client } = berthd;
    await client.createInstance({ query: long, body: { image, name: "runs" } });
    const body = { instance: "runs", name: "running", memory: true };
    const { operation, snapshot } = await client.createSnapshot({ query: long, body });
    expect(operation.error).toBeNull();
    expect(snapshot).toMatchObject({ kind: "memory" });
    const running = join(scratch, "running.berth");
    await cli.berth("export", "--snapshot", "running", "-o", running);
    await cli.berth("import", running, "--name", "boots");
    expect((await show("boots")).status).toMatchObject({ ready: true, start: { mode: "cold" } });
    // Negative control: the snapshot itself is gone on from.
    await client.launchSnapshot({ params: { snapshot: "running" }, query: long, body: { name: "goes-on" } });
    expect((await show("goes-on")).status).toMatchObject({ ready: true, start: { mode: "restored" } });
  });

  test("import where neither instance nor image ever were", async () => {
    await using elsewhere = await fakeBerthd(await scratchDirectory("elsewhere"), { ordinaryUser });
    const [old] = (await elsewhere.client.listImages({ query: { reference: image } })).items;
    await elsewhere.client.deleteImage({ params: { image: old?.id ?? "" }, query: long });
    const there = berthOf(elsewhere);
    expect(await there.berth("import", file, "-l", "tier=front", "--memory", "96M", "-p", "81")).toBe("web\n");
    const web = await there.json<Instance>("show", "web");
    expect(web).toMatchObject({
      labels: { team: "a", tier: "front" },
      spec: { memoryMib: 96, env: { PASSWORD: "hunter2" }, ports: [{ guestPort: 81 }] },
      status: { ready: true },
    });
    await there.berth("rm", "--force", "web");
  });

  test("an import is judged as a launch is: names, ports, CPUs and memory", async () => {
    const archive = await send(readFileSync(file), "web.berth");
    const ask = (body: object) => berthd.client.importInstance({ params: { archive }, query: long, body });
    await expectRefused(ask({}), "name_taken", "named web");
    await expectRefused(ask({ name: "two", cpus: 512 }), "not_enough_resources", "512 CPUs");
    await expectRefused(ask({ name: "two", memoryMib: 2 ** 24 }), "not_enough_resources", "MiB of memory");
    await expectRefused(ask({ name: "two", location: "nowhere" }), "not_found", "location");
    const { hostPort = 0 } = (await show("web")).status.ports[0] ?? {};
    await expectFailed(ask({ name: "two", ports: [{ hostPort, guestPort: 80 }] }), "port_taken", String(hostPort));
    await using foreign = await listening();
    const { operation } = await ask({ name: "two", ports: [{ hostPort: foreign.port, guestPort: 80 }], start: false });
    expect(operation.status).toBe("succeeded");
    await expectRefused(ask({ name: "two" }), "name_taken", "named two");
    expect((await archives()).map(({ state }) => state)).toEqual(["ready"]);
  });

  test("one whose host port a program outside Berth has gets a free one", async () => {
    await using foreign = await listening();
    const body = { image, name: "busy", ports: [{ hostPort: foreign.port, guestPort: 80 }], start: false };
    await berthd.client.createInstance({ query: long, body });
    const busy = join(scratch, "busy.berth");
    await cli.berth("export", "busy", "-o", busy, "--force");
    await cli.berth("rm", "busy");
    const { stderr } = await cli.run(["import", busy]);
    expect(stderr).toContain(`port ${foreign.port} of 127.0.0.1 is taken here`);
    expect((await show("busy")).status).toMatchObject({ ready: true });
    expect((await show("busy")).status.ports[0]?.hostPort).not.toBe(foreign.port);
  });

  test("what has not arrived wholly is neither imported nor read", async () => {
    const bytes = readFileSync(file);
    const beginning = "0".repeat(64);
    const { id } = await berthd.client.createArchive({ body: { name: "x", sizeBytes: bytes.length, beginning } });
    const params = { archive: id };
    await berthd.client.writeArchive({ params, body: bytes.subarray(0, 1000) });
    expect(await berthd.client.getArchive({ params })).toMatchObject({ state: "receiving", receivedBytes: 1000 });
    const asked = berthd.client.importInstance({ params, body: { name: "two" } });
    await expectRefused(asked, "archive_incomplete", `1000 of ${bytes.length} bytes`);
    await expectRefused(berthd.client.readArchive({ params }), "archive_incomplete", "1000");
    await berthd.client.writeArchive({ params, body: bytes.subarray(1000) }, { fromByte: 1000 });
    const { operation } = await berthd.client.importInstance({ params, query: long, body: { name: "two" } });
    expect(operation.error).toBeNull();
  });

  test("more than the node's disk has room for is refused before any of it is sent", async () => {
    const body = { name: "x", sizeBytes: 2 ** 45, beginning: "0".repeat(64) };
    await expectRefused(berthd.client.createArchive({ body }), "disk_full", "the node has");
    expect(await archives()).toEqual([]);
  });

  describe("a hostile archive", () => {
    const parts = (): { manifest: { disks: { sizeBytes: number }[] }; disk: Buffer } => {
      const folder = join(scratch, "parts");
      mkdirSync(folder, { recursive: true });
      execFileSync("tar", ["-xf", file, "-C", folder]);
      const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
      return { manifest, disk: readFileSync(join(folder, "disks/root.qcow2")) };
    };
    const sum = (content: string | Buffer) =>
      createHash("sha256")
        .update(content as string)
        .digest("hex");
    /** An archive with this disk, whose checksums are right. */
    const withDisk = (disk: Buffer, change: object = {}): TarItem[] => {
      const { manifest } = parts();
      const [first] = manifest.disks;
      const disks = [{ ...first, fileBytes: disk.length, sha256: sum(disk), ...change }];
      const text = JSON.stringify({ ...manifest, disks });
      const sums = `${sum(text)}  manifest.json\n${sum(disk)}  disks/root.qcow2\n`;
      return [
        { path: "manifest.json", content: text },
        { path: "disks/root.qcow2", content: disk },
        { path: "SHA256SUMS", content: sums },
      ];
    };
    const made = (name: string, ...options: string[]): Buffer => {
      const path = join(scratch, name);
      const { sizeBytes = 0 } = parts().manifest.disks[0] ?? {};
      execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", ...options, path, String(sizeBytes)]);
      const bytes = readFileSync(path);
      return Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
    };
    const flipped = (): Buffer => {
      const bytes = readFileSync(file);
      const at = bytes.length - 8192;
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      return bytes;
    };

    test("put together anew as it was is taken, so that it is the change that is refused", async () => {
      const archive = await send(writeTar(withDisk(parts().disk)));
      const asked = berthd.client.importInstance({ params: { archive }, query: long, body: { name: "two" } });
      expect((await asked).operation.error).toBeNull();
    });

    test.each<[string, () => Buffer, RegExp]>([
      ["whose disk is damaged", flipped, /is damaged: disks\/root\.qcow2 does not fit its checksum/],
      [
        "whose disk leads to a file of the host",
        () => writeTar(withDisk(made("b.qcow2", "-F", "raw", "-b", "/etc/hostname"))),
        /a disk root that has a backing file/,
      ],
      [
        "whose disk keeps its data in a file of the host",
        () => writeTar(withDisk(made("d.qcow2", "-o", `data_file=${join(scratch, "d.raw")}`))),
        /a disk root that has features/,
      ],
      ["whose disk is none", () => writeTar(withDisk(Buffer.alloc(4096, "x"))), /a disk root that is no qcow2 file/],
      [
        "whose disk is larger than it says",
        () => writeTar(withDisk(parts().disk, { sizeBytes: 512 })),
        /a disk root that has \d+ bytes for its guest, and 512 were promised/,
      ],
    ])("%s fails, and nothing of it is left", async (_what, bytes, words) => {
      const archive = await send(bytes());
      const asked = berthd.client.importInstance({ params: { archive }, query: long, body: { name: "two" } });
      const operation = await expectFailed(asked, "invalid_archive", words);
      expect(operation.steps.map(({ name }) => name)).toEqual(["verify-archive"]);
      await expectNothingNew();
    });

    test.each<[string, () => Buffer, RegExp]>([
      ["that is cut short", () => readFileSync(file).subarray(0, -20_000), /cut short|longer than the archive/],
      [
        "with a path that leads out",
        () =>
          writeTar(withDisk(parts().disk).map((item, at) => (at === 1 ? { ...item, path: "../root.qcow2" } : item))),
        /has "\.\.\/root/,
      ],
      ["that is no archive at all", () => Buffer.alloc(4096, "x"), /not a sound tar archive/],
    ])("%s is refused at once", async (_what, bytes, words) => {
      const archive = await send(bytes());
      await expectRefused(berthd.client.importInstance({ params: { archive }, body: {} }), "invalid_archive", words);
      await expectNothingNew();
    });

    test("is deleted by the command, which says why", async () => {
      writeFileSync(join(scratch, "bad.berth"), flipped());
      const { code, stderr } = await cli.run(["import", join(scratch, "bad.berth"), "--name", "two"]);
      expect(code).toBe(1);
      expect(stderr).toContain("does not fit its checksum");
      expect(await archives()).toEqual([]);
    });

    async function expectNothingNew(): Promise<void> {
      const left = await instances();
      expect(left.map(({ name }) => name)).toEqual(["web"]);
      expect(readdirSync(join(scratch, "data/instances"))).toEqual(left.map(({ id }) => id));
      expect(await imported()).toEqual([]);
      expect(readdirSync(join(scratch, "data/tmp"))).toEqual([]);
      const kept = (await archives()).map(({ id }) => `${id}.berth`);
      expect(readdirSync(join(scratch, "data/archives"))).toEqual(kept);
      // Nobody but berthd can read it any more.
      for (const name of kept) expect(statSync(join(scratch, "data/archives", name)).mode & 0o777).toBe(0o600);
    }
  });
});

/** A program that is not Berth's on a port. */
async function listening(): Promise<AsyncDisposable & { readonly port: number }> {
  const port = await freePort();
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return { port, [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())) };
}
