import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Berthd } from "../support/berthd.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { expectFailed, expectRefused } from "../support/refusals.ts";
import { berthOf, type RunBerth } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { fakeBerthd, image } from "./fake-world.ts";

const params = { instance: "web" };
const long = { wait: 60 } as const;

describe.each(whoRunsBerthd)("berthd as $who", ({ ordinaryUser }) => {
  let scratch: string;
  let berthd: Berthd;
  let cli: RunBerth;

  beforeAll(async () => {
    scratch = await scratchDirectory("export");
    berthd = await fakeBerthd(scratch, { ordinaryUser });
    cli = berthOf(berthd);
    const body = { image, name: "web", env: { PASSWORD: "hunter2" }, labels: { team: "a" }, start: false };
    const { operation } = await berthd.client.createInstance({ query: long, body });
    expect(operation.error).toBeNull();
  });
  afterAll(() => berthd?.stop());

  const archives = async () => (await berthd.client.listArchives({ query: {} })).items;
  const unpack = (file: string) => {
    const folder = `${file}.d`;
    execFileSync("mkdir", [folder]);
    execFileSync("tar", ["-xf", file, "-C", folder]);
    return folder;
  };

  test("export writes one file that tar and sha256sum understand, whose disk stands on its own", async () => {
    const file = join(scratch, "web.berth");
    expect(await cli.berth("export", "web", "-o", file)).toBe(`${file}\n`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const folder = unpack(file);
    expect(readdirSync(folder).sort()).toEqual(["SHA256SUMS", "disks", "manifest.json"]);
    execFileSync("sha256sum", ["--check", "--strict", "--quiet", "SHA256SUMS"], { cwd: folder });
    const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
    expect(manifest).toMatchObject({
      format: "berth-instance",
      version: 1,
      environment: "included",
      image: { reference: image, startConfig: { env: expect.arrayContaining(["FROM=image"]), cmd: ["/none"] } },
      instance: { name: "web", labels: { team: "a" }, spec: { env: { PASSWORD: "hunter2" }, power: "stopped" } },
    });
    const disk = join(folder, "disks/root.qcow2");
    const info = JSON.parse(
      execFileSync("qemu-img", ["info", "--output=json", "-f", "qcow2", disk], { encoding: "utf8" }),
    );
    expect(info["virtual-size"]).toBe(manifest.disks[0].sizeBytes);
    expect(info["backing-filename"]).toBeUndefined();
    const { id } = await berthd.client.getInstance({ params });
    const original = join(scratch, "data/instances", id, "vm/root.qcow2");
    const same = execFileSync("qemu-img", ["compare", "-f", "qcow2", "-F", "qcow2", original, disk], {
      encoding: "utf8",
    });
    expect(same).toContain("identical");
    expect(await archives()).toEqual([]);
  });

  test("--without-env leaves its own variables out, wherever one looks", async () => {
    const file = join(scratch, "bare.berth");
    await cli.berth("export", "web", "-o", file, "--without-env");
    const folder = unpack(file);
    expect(readFileSync(join(folder, "manifest.json"), "utf8")).toMatch(/"environment": "left-out"/);
    expect(readFileSync(file).includes("hunter2")).toBe(false);
    // Negative control: with them, it is there to be found.
    expect(readFileSync(join(scratch, "web.berth")).includes("hunter2")).toBe(true);
  });

  test("an archive stays the same bytes for as long as it is there, in whatever parts it is read", async () => {
    const { archive } = await berthd.client.exportInstance({ params, query: long });
    expect(archive).toMatchObject({ name: "web.berth", state: "ready", operationId: null });
    const read = async (fromByte: number) => {
      const stream = await berthd.client.readArchive({ params: { archive: archive.id } }, { fromByte });
      return Buffer.from(await new Response(stream).arrayBuffer());
    };
    const whole = await read(0);
    expect(whole.length).toBe(archive.sizeBytes);
    for (const from of [1, 511, 70_000, whole.length - 1])
      expect((await read(from)).equals(whole.subarray(from))).toBe(true);
    const file = join(scratch, "again.berth");
    writeFileSync(`${file}.part`, whole.subarray(0, 70_000));
    const { stderr } = await cli.run(["export", "web", "-o", file]);
    expect(stderr).toContain("are here");
    expect(readFileSync(file).equals(whole)).toBe(true);
  });

  test("one that runs or is suspended is refused, and so is one whose disk is gone; nothing is left", async () => {
    await berthd.client.startInstance({ params, query: long });
    await expectRefused(berthd.client.exportInstance({ params, query: long }), "instance_running", "web is running");
    await berthd.client.suspendInstance({ params, query: long });
    await expectRefused(berthd.client.exportInstance({ params, query: long }), "instance_suspended", "its memory");
    const queued = berthd.client.exportInstance({ params, query: { ...long, queue: true } });
    await expectFailed(queued, "instance_suspended", "its memory");
    const { instance } = await berthd.client.stopInstance({ params, query: { ...long, force: true } });
    const disk = join(scratch, "data/instances", instance.id, "vm/root.qcow2");
    execFileSync("mv", [disk, `${disk}.away`]);
    await expectFailed(berthd.client.exportInstance({ params, query: long }), "disk_missing", "root.qcow2");
    execFileSync("mv", [`${disk}.away`, disk]);
    expect(await archives()).toEqual([]);
    expect(readdirSync(join(scratch, "data/archives"))).toEqual([]);
  });

  test("an archive is deleted by the command", async () => {
    const { archive } = await berthd.client.exportInstance({ params, query: long });
    expect(await cli.berth("archive", "rm", archive.id)).toBe(`${archive.id}\n`);
    expect(await archives()).toEqual([]);
    expect(existsSync(join(scratch, "data/archives", `${archive.id}.berth`))).toBe(false);
  });
});
