import { stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { syncedWhile } from "../../../../test/support/synced.ts";
import { localHost } from "../host/local.ts";
import { InstanceFolders } from "./instance-folder.ts";
import { createOverlay, growOverlay, inspectOverlay, isUntouched, removeOverlay } from "./qcow2.ts";

const host = localHost();
const mib = 1024 * 1024;
const isRoot = process.getuid?.() === 0;
const range = isRoot ? { first: 0x70000000, last: 0x70000010 } : null;

describe("an overlay", () => {
  let folder: string;
  let backingPath: string;

  beforeAll(async () => {
    folder = await scratchDirectory("qcow2");
    backingPath = join(folder, "base.raw");
    await writeFile(backingPath, Buffer.alloc(2 * mib, "a"));
  });

  const folders = () => new InstanceFolders({ host, root: join(folder, "i"), range });
  const request = async (id: string, sizeMib: number) => {
    const { vmPath, user } = await folders().create(id);
    return { name: "root", path: join(vmPath, "root.qcow2"), backingPath, sizeMib, user };
  };

  test("is sized, made once, and kept with what was written to it", async () => {
    const wish = await request("i-1", 64);
    const disk = await createOverlay(host, wish);
    expect(disk).toEqual({ name: "root", path: wish.path, format: "qcow2", readOnly: false });
    expect(await inspectOverlay(host, wish.path, wish.user)).toMatchObject({ sizeBytes: 64 * mib, backingPath });
    await host.run("qemu-io", ["-f", "qcow2", "-c", "write -P 0x62 0 4096", wish.path], { ...wish.user });
    expect(await createOverlay(host, { ...wish, sizeMib: 128 })).toEqual(disk);
    await host.run("qemu-io", ["-f", "qcow2", "-c", "read -P 0x62 0 4096", "-c", "read -P 0x61 4096 4096", wish.path], {
      ...wish.user,
    });
    expect((await stat(backingPath)).size).toBe(2 * mib);
  });

  test("is on the disk before it has its name, the first of an artifact like any later one", async () => {
    for (const id of ["i-8", "i-9"]) {
      const wish = await request(id, 48);
      const synced = await syncedWhile(() => createOverlay(host, wish));
      expect(synced).toEqual([expect.stringMatching(/\/\.?root\.qcow2\.\w+$/), `${dirname(wish.path)}/: root.qcow2`]);
    }
  });

  test.runIf(isRoot)("belongs to its instance's user alone", async () => {
    const [one, two] = [await request("i-2", 16), await request("i-3", 16)];
    await createOverlay(host, one);
    const facts = await stat(one.path);
    expect([facts.uid, facts.mode & 0o777]).toEqual([one.user?.uid, 0o600]);
    expect(one.user?.uid).not.toBe(two.user?.uid);
    await expect(host.run("cat", [one.path], { ...two.user })).rejects.toThrow();
  });

  test("is never smaller than what is below it, grows, and does not shrink", async () => {
    const wish = await request("i-4", 1);
    await createOverlay(host, wish);
    expect((await inspectOverlay(host, wish.path, wish.user))?.sizeBytes).toBe(2 * mib);
    for (const [size, expected] of [
      [32, 32],
      [16, 32],
      [32, 32],
    ] as const) {
      await growOverlay(host, wish.path, size, wish.user);
      expect((await inspectOverlay(host, wish.path, wish.user))?.sizeBytes).toBe(expected * mib);
    }
  });

  test("shows whether anything was ever written to it", async () => {
    const wish = await request("i-7", 2048);
    await createOverlay(host, wish);
    const folder = dirname(wish.path);
    expect(await isUntouched(host, folder, "root.qcow2")).toBe(true);
    await growOverlay(host, wish.path, 4096, wish.user);
    expect(await isUntouched(host, folder, "root.qcow2")).toBe(true);
    await host.run("qemu-io", ["-f", "qcow2", "-c", "write -P 0x62 3G 512", wish.path], { ...wish.user });
    expect(await isUntouched(host, folder, "root.qcow2")).toBe(false);
    await expect(isUntouched(host, folder, "gone.qcow2")).rejects.toThrow("not there");
    await writeFile(join(folder, "text.qcow2"), "x".repeat(1000));
    await expect(isUntouched(host, folder, "text.qcow2")).rejects.toThrow("no qcow2");
  });

  test("is removed with what a broken off creation left, as often as asked", async () => {
    const wish = await request("i-5", 16);
    await createOverlay(host, wish);
    await writeFile(`${wish.path}.new`, "half");
    for (let time = 0; time < 2; time += 1) await removeOverlay(host, wish.path);
    expect(await inspectOverlay(host, wish.path, wish.user)).toBeUndefined();
    expect(await host.files.exists(`${wish.path}.new`)).toBe(false);
  });

  test.runIf(isRoot)("does not lead its maker anywhere by a link its user put there", async () => {
    const wish = await request("i-6", 16);
    const precious = join(folder, "precious");
    await writeFile(precious, "keep", { mode: 0o600 });
    await host.run("ln", ["-s", precious, `${wish.path}.new`]);
    await createOverlay(host, wish);
    expect(await host.files.readText(precious)).toBe("keep");
  });
});

describe.runIf(isRoot)("instance folders", () => {
  test("give each instance a user of its own, the same one each time, and use a freed one again", async () => {
    const folders = new InstanceFolders({ host, root: join(await scratchDirectory("folders"), "i"), range });
    const made = await Promise.all(["i-1", "i-2", "i-3", "i-1"].map((id) => folders.create(id)));
    const uids = made.map(({ user }) => user?.uid);
    expect(new Set(uids).size).toBe(3);
    expect(uids[3]).toBe(uids[0]);
    expect(await folders.find("i-2")).toEqual(made[1]);
    await folders.remove("i-2");
    await folders.remove("i-2");
    expect(await folders.find("i-2")).toBeUndefined();
    expect((await folders.create("i-4")).user?.uid).toBe(uids[1]);
    const { vmPath, path } = await folders.create("i-1");
    expect([(await stat(path)).uid, (await stat(path)).mode & 0o777]).toEqual([0, 0o711]);
    expect([(await stat(vmPath)).uid, (await stat(vmPath)).mode & 0o777]).toEqual([uids[0], 0o700]);
  });

  test("finish what a crash cut off", async () => {
    const folders = new InstanceFolders({ host, root: join(await scratchDirectory("folders"), "i"), range });
    await host.files.makeDirectory(join(folders.path("i-1"), "vm"));
    expect(await folders.find("i-1")).toBeUndefined();
    expect((await folders.create("i-1")).user).not.toBeNull();
    expect(await folders.find("i-1")).toBeDefined();
  });
});
