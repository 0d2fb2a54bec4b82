import { open, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { InstanceFolders } from "./instance-folder.ts";
import { inspectPackedDisk, type PackedDisk, packDisk, unpackDisk } from "./packed-disk.ts";
import { createOverlay, inspectOverlay } from "./qcow2.ts";

const host = localHost();
const mib = 2 ** 20;
const isRoot = process.getuid?.() === 0;
const range = isRoot ? { first: 0x70000020, last: 0x70000030 } : null;
const never = new AbortController().signal;
const quiet = { signal: never, progress: () => undefined };

let folder: string;
let folders: InstanceFolders;
beforeAll(async () => {
  folder = await scratchDirectory("packed");
  folders = new InstanceFolders({ host, root: join(folder, "i"), range });
});

const offset = 4608;
const qemuImg = (...args: string[]) => host.run("qemu-img", args);
const io = (path: string, ...commands: string[]) =>
  host.run("qemu-io", ["-f", "qcow2", ...commands.flatMap((command) => ["-c", command]), path]);

/** A file with a qcow2 inside, which the installation's users may read. */
async function packed(name: string, content: Buffer, sizeBytes = 64 * mib): Promise<PackedDisk> {
  const path = join(folder, name);
  const disk = Buffer.concat([content, Buffer.alloc((512 - (content.length % 512)) % 512)]);
  await writeFile(path, Buffer.concat([Buffer.alloc(offset, "h"), disk, Buffer.alloc(512)]), { mode: 0o644 });
  return { path, offset, fileBytes: disk.length, sizeBytes };
}

/** A qcow2 that qemu-img makes with these options, changed by a function. */
async function made(
  name: string,
  options: readonly string[],
  change?: (path: string) => Promise<unknown>,
): Promise<PackedDisk> {
  const path = join(folder, `${name}.qcow2`);
  await qemuImg("create", "-q", "-f", "qcow2", ...options, path, "64M");
  await change?.(path);
  return packed(name, await readFile(path));
}

const inspect = (disk: PackedDisk) => inspectPackedDisk(host, disk, folders.nobody, never);

describe("a disk", () => {
  test("is packed at a place in a file, small and on its own, and unpacked as it was", async () => {
    const base = join(folder, "base.raw");
    await writeFile(base, Buffer.alloc(2 * mib, "a"));
    await truncate(base, 8 * mib);
    const { vmPath, user } = await folders.create("i-1");
    const source = { name: "root", path: join(vmPath, "root.qcow2"), backingPath: base, sizeMib: 64, user };
    await createOverlay(host, source);
    await host.run("qemu-io", ["-f", "qcow2", "-c", "write -P 0x62 1M 5M", source.path], { ...user });
    const target = join(folder, "one");
    await writeFile(target, Buffer.alloc(offset, "h"), { mode: 0o600 });
    if (user) await host.files.chown(target, user.uid, user.gid);
    const percents: number[] = [];
    const work = { signal: never, progress: (percent: number) => void percents.push(percent) };
    const { sizeBytes } = await packDisk(host, { sourcePath: source.path, user, targetPath: target, offset }, work);
    expect(sizeBytes).toBe(64 * mib);
    expect(percents.at(-1)).toBe(100);
    expect((await readFile(target)).subarray(0, offset).equals(Buffer.alloc(offset, "h"))).toBe(true);
    const fileBytes = (await stat(target)).size - offset;
    expect(fileBytes).toBeLessThan(mib);
    expect(fileBytes % 512).toBe(0);
    expect(await host.files.exists(`${target}.empty`)).toBe(false);

    const disk = { path: target, offset, fileBytes, sizeBytes };
    await host.files.chmod(target, 0o644);
    const facts = await inspect(disk);
    if (facts.refused !== null) throw new Error(facts.refused);
    expect(facts.unpackedBytes).toBeGreaterThan(6 * mib);
    expect(facts.unpackedBytes).toBeLessThan(8 * mib);
    const other = await folders.create("i-2");
    const path = join(other.vmPath, "root.qcow2");
    const request = { path, sizeMib: 128, maxBytes: facts.unpackedBytes, user: other.user };
    for (let time = 0; time < 2; time += 1) await unpackDisk(host, disk, request, quiet);
    const unpacked = await inspectOverlay(host, path, other.user);
    expect(unpacked).toMatchObject({ sizeBytes: 128 * mib, backingPath: null });
    expect([(await stat(path)).uid, (await stat(path)).mode & 0o777]).toEqual([
      other.user?.uid ?? process.getuid?.(),
      0o600,
    ]);
    const same = await host.run("qemu-img", ["compare", "-f", "qcow2", "-F", "qcow2", source.path, path]);
    expect(same.stdout).toContain("Images are identical");
  });

  test("that is stopped while it is packed or unpacked leaves nothing under its name", async () => {
    const disk = await made("stopped", ["-o", "compression_type=zstd"], (path) => io(path, "write -P 1 0 60M"));
    const stop = new AbortController();
    const path = join(folder, "stopped-disk.qcow2");
    const request = { path, sizeMib: 64, maxBytes: 64 * mib, user: null };
    const work = { signal: stop.signal, progress: () => stop.abort() };
    await expect(unpackDisk(host, disk, request, work)).rejects.toMatchObject({ reason: "aborted" });
    expect(await host.files.exists(path)).toBe(false);
  });
});

describe("a hostile disk is refused: one", () => {
  const secret = "the host's own words";
  const secretPath = () => join(folder, "secret.raw");
  beforeAll(async () => {
    await writeFile(secretPath(), secret.padEnd(mib));
  });

  test("that leads to a file of the host; without the look its content would be the disk's", async () => {
    const disk = await made("backing", ["-F", "raw", "-b", secretPath()]);
    expect(await inspect(disk)).toEqual({ refused: "has a backing file" });
    const path = join(folder, "leaked.qcow2");
    await unpackDisk(host, disk, { path, sizeMib: 64, maxBytes: 64 * mib, user: null }, quiet);
    await qemuImg("convert", "-f", "qcow2", "-O", "raw", path, `${path}.raw`);
    expect((await readFile(`${path}.raw`)).includes(secret)).toBe(true);
  });

  test("that keeps its data in a file of the host", async () => {
    const disk = await made("data", ["-o", `data_file=${join(folder, "data.raw")},data_file_raw=on`]);
    expect(await inspect(disk)).toEqual({ refused: "has features that no packed disk has" });
  });

  test("with a snapshot inside, with a bitmap, of an older version, or that is none", async () => {
    const snapshot = await made("snapshot", [], (path) => qemuImg("snapshot", "-c", "one", path));
    expect(await inspect(snapshot)).toEqual({ refused: "has snapshots inside" });
    const bitmap = await made("bitmap", [], (path) => qemuImg("bitmap", "--add", "-f", "qcow2", path, "one"));
    expect(await inspect(bitmap)).toEqual({ refused: "has features that no packed disk has" });
    expect(await inspect(await made("old", ["-o", "compat=0.10"]))).toEqual({
      refused: "has version 2 of qcow2, not 3",
    });
    expect(await inspect(await packed("none", Buffer.alloc(10_000)))).toEqual({ refused: "is no qcow2 file" });
  });

  test("that is larger for its guest than was said", async () => {
    const disk = await made("large", []);
    const refused = "has 67108864 bytes for its guest, and 1048576 were promised";
    expect(await inspect({ ...disk, sizeBytes: mib })).toEqual({ refused });
  });

  test("whose tables lead behind its end", async () => {
    const disk = await made("torn", ["-o", "compression_type=zstd"], (path) => io(path, "write -P 1 0 4M"));
    const bytes = (await readFile(disk.path)).subarray(offset, offset + disk.fileBytes);
    // The first entry of the level 1 table: behind the end of the file.
    const level1 = Number(bytes.readBigUInt64BE(40));
    bytes.writeBigUInt64BE((1n << 63n) | (1n << 40n), level1);
    expect(await inspect(await packed("astray", bytes))).toMatchObject({
      refused: expect.stringContaining("is damaged"),
    });
  });

  test("that unpacks to more than was found, which is stopped at that", async () => {
    const disk = await made("bomb", ["-o", "compression_type=zstd"], (path) => io(path, "write -P 1 0 60M"));
    const path = join(folder, "bomb-disk.qcow2");
    const request = { path, sizeMib: 64, maxBytes: mib, user: null };
    await expect(unpackDisk(host, disk, request, quiet)).rejects.toMatchObject({ code: "host_program_failed" });
    expect(await host.files.exists(path)).toBe(false);
    expect((await stat(`${path}.new`)).size).toBeLessThan(20 * mib);
  });

  test("whose clusters are all one and the same is measured by what it unpacks to", async () => {
    // Each of the 1024 clusters of the guest leads to the first one's compressed bytes, whose reference count says so.
    const path = join(folder, "shared.qcow2");
    const plain = join(folder, "shared.raw");
    await writeFile(plain, Buffer.alloc(65_536, "x"));
    await truncate(plain, 64 * mib);
    await qemuImg("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd", plain, path);
    const file = await open(path, "r+");
    const number = async (at: number) => (await file.read(Buffer.alloc(8), 0, 8, at)).buffer.readBigUInt64BE();
    const mask = 0x00fffffffffffe00n;
    const level2 = Number((await number(Number(await number(40)))) & mask);
    const entry = await number(level2);
    const entries = Buffer.alloc(1024 * 8);
    for (let index = 0; index < 1024; index += 1) entries.writeBigUInt64BE(entry, index * 8);
    await file.write(entries, 0, entries.length, level2);
    const counts = Number((await number(Number(await number(48)))) & mask);
    const cluster = Math.floor(Number(entry & ((1n << 54n) - 1n)) / 65_536);
    await file.write(Buffer.from([1024 >> 8, 1024 & 255]), 0, 2, counts + cluster * 2);
    await file.close();
    const disk = await packed("shared", await readFile(path));
    expect(disk.fileBytes).toBeLessThan(mib);
    const facts = await inspect(disk);
    expect(facts).toMatchObject({ refused: null });
    expect("unpackedBytes" in facts && facts.unpackedBytes).toBeGreaterThan(64 * mib);
  });
});
