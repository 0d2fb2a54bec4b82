import { execFileSync } from "node:child_process";
import { lstatSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import type { HostUser } from "../core/descriptions.ts";
import { localHost } from "../host/local.ts";
import { createOverlay } from "./qcow2.ts";
import { newFolderName, SnapshotFolders } from "./snapshot-folders.ts";
import { type DiskToSwitch, finishSwitch, forgetSwitch, prepareSwitch, takeBackSwitch } from "./switch-disks.ts";

const host = localHost();
const isRoot = process.getuid?.() === 0;
const user: HostUser | null = isRoot ? { uid: 0x70000001, gid: 0x70000001 } : null;
const folderUser: HostUser | null = isRoot ? { uid: 0x70000002, gid: 0x70000002 } : null;
const never = new AbortController().signal;
const mib = 1024 * 1024;

let vm: string;
let folders: SnapshotFolders;
let folder: string;
let disks: DiskToSwitch[];

beforeEach(async () => {
  const scratch = await scratchDirectory("sw");
  vm = join(scratch, "vm");
  const base = join(scratch, "base.raw");
  writeFileSync(base, Buffer.alloc(2 * mib, 0x0a));
  await host.files.makeDirectory(vm, { mode: 0o700, ...user });
  folders = new SnapshotFolders({ host, root: join(scratch, "snapshots"), user: folderUser });
  folder = newFolderName();
  await folders.create(folder, { snapshotId: "snap-1" });
  disks = ["root", "data"].map((name) => {
    const path = join(vm, `${name}.qcow2`);
    const frozenPath = folders.layerPath({ folder, disk: name });
    return {
      name,
      path,
      nextPath: `${path}.next-x`,
      frozenPath,
      basePath: frozenPath,
      baseFormat: "qcow2" as const,
      sizeMib: 16,
    };
  });
  for (const { name, path } of disks) {
    await createOverlay(host, { name, path, backingPath: base, sizeMib: 16, user });
    write(path, 0x0b);
  }
});

const io = (path: string, command: string, ...options: readonly string[]) =>
  execFileSync("qemu-io", ["-f", "qcow2", ...options, "-c", command, path], {
    ...(user ?? {}),
    stdio: ["ignore", "pipe", "ignore"],
  });
const write = (path: string, byte: number) => io(path, `write -P ${byte} 0 4096`);
/** Throws unless the disk's first block has this byte, and the next one the base's. */
const has = (path: string, byte: number) => {
  expect(String(io(path, `read -P ${byte} 0 4096`, "-r"))).not.toContain("failed");
  expect(String(io(path, "read -P 0x0a 4096 4096", "-r"))).not.toContain("failed");
};

describe("a switch", () => {
  test("prepared and finished twice keeps what was, read-only, and lets the disks go on over it", async () => {
    for (let time = 0; time < 2; time += 1) await prepareSwitch(host, disks, user, never);
    for (let time = 0; time < 2; time += 1) await finishSwitch(host, disks, user);
    expect(readdirSync(vm).sort()).toEqual(["data.qcow2", "root.qcow2"]);
    for (const { path, frozenPath } of disks) {
      write(path, 0x0c);
      has(path, 0x0c);
      has(frozenPath ?? "", 0x0b);
      const facts = statSync(frozenPath ?? "");
      expect([facts.uid, facts.mode & 0o777]).toEqual(isRoot ? [0, 0o444] : [process.getuid?.(), 0o400]);
      expect(statSync(path).uid).toBe(user?.uid ?? process.getuid?.());
    }
    const layers = await folders.survey();
    expect(layers.map(({ disk, below }) => [disk, below])).toEqual([
      ["data", null],
      ["root", null],
    ]);
    expect(await folders.below(disks[0]?.path ?? "")).toEqual({ folder, disk: "root" });
  });

  test.each(["prepared", "finished"])("%s is taken back to the very files that were", async (how) => {
    const before = disks.map(({ path }) => statSync(path).ino);
    await prepareSwitch(host, disks, user, never);
    if (how === "finished") await finishSwitch(host, disks, user);
    for (let time = 0; time < 2; time += 1) await takeBackSwitch(host, disks, user);
    expect(await folders.disksOf(folder)).toEqual([]);
    await folders.remove(folder);
    await takeBackSwitch(host, disks, user);
    expect(disks.map(({ path }) => statSync(path).ino)).toEqual(before);
    expect(readdirSync(vm).sort()).toEqual(["data.qcow2", "root.qcow2"]);
    for (const { path } of disks) {
      has(path, 0x0b);
      write(path, 0x0c);
    }
  });

  test("half finished is finished by the same again, and not forgotten", async () => {
    await prepareSwitch(host, disks, user, never);
    const [first] = disks;
    if (!first) throw new Error("no disk");
    await finishSwitch(host, [first], user);
    await forgetSwitch(host, [first]);
    has(first.frozenPath ?? "", 0x0b);
    await finishSwitch(host, disks, user);
    for (const { path } of disks) has(path, 0x0b);
  });

  test("to other files leaves those as they are, and lets the present ones go or keeps them", async () => {
    await prepareSwitch(host, disks, user, never);
    await finishSwitch(host, disks, user);
    for (const { path } of disks) write(path, 0x0c);
    const kept = newFolderName();
    await folders.create(kept, { snapshotId: "snap-2" });
    const back = disks.map(({ name, path, basePath, sizeMib }) => {
      const frozenPath = name === "root" ? folders.layerPath({ folder: kept, disk: name }) : null;
      return { name, path, nextPath: `${path}.next-y`, frozenPath, basePath, baseFormat: "qcow2" as const, sizeMib };
    });
    await prepareSwitch(host, back, user, never);
    await finishSwitch(host, back, user);
    for (const { path } of disks) has(path, 0x0b);
    has(back[0]?.frozenPath ?? "", 0x0c);
    expect(await folders.disksOf(kept)).toEqual(["root"]);
  });

  test("is never smaller than what is below", async () => {
    const small = disks.map((disk) => ({ ...disk, sizeMib: 1 }));
    await prepareSwitch(host, small, user, never);
    for (const { nextPath } of small) expect(await folders.sizeBytes(nextPath)).toBe(16 * mib);
  });
});

describe.runIf(isRoot)("a disk that its user has put something else in the place of", () => {
  const secret = async () => {
    const path = join(await scratchDirectory("sec"), "secret");
    writeFileSync(path, "secret", { mode: 0o600 });
    return path;
  };

  test.each([
    ["a link", (path: string, target: string) => symlinkSync(target, path)],
    ["another's file", (path: string, target: string) => execFileSync("ln", [target, path])],
    ["a folder", (path: string) => mkdirSync(path)],
    ["a pipe", (path: string) => execFileSync("mkfifo", [path])],
  ])("is not kept: %s", async (_, plant) => {
    const target = await secret();
    const [disk] = disks;
    if (!disk) throw new Error("no disk");
    rmSync(disk.path);
    plant(disk.path, target);
    await expect(prepareSwitch(host, [disk], user, never)).rejects.toThrow();
    expect(await folders.disksOf(folder)).toEqual([]);
    expect([lstatSync(target).mode & 0o777, lstatSync(target).uid]).toEqual([0o600, 0]);
  });

  test("would hand the secret out without the look: it is what the look is for", async () => {
    const target = await secret();
    const [disk] = disks;
    if (!disk) throw new Error("no disk");
    rmSync(disk.path);
    execFileSync("ln", [target, disk.path]);
    const blind = {
      ...host,
      files: { ...host.files, facts: async () => ({ isPlain: true, uid: user?.uid }) as never },
    };
    await prepareSwitch(blind, [{ ...disk, basePath: disks[1]?.path ?? "" }], user, never);
    await finishSwitch(blind, [disk], user);
    expect(lstatSync(target).mode & 0o777).toBe(0o444);
  });
});
