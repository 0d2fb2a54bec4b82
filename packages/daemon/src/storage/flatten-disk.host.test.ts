import { execFileSync } from "node:child_process";
import { chmodSync, closeSync, openSync, readFileSync, statSync, truncateSync, writeSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { flattenDisk, sumOfDisk } from "./flatten-disk.ts";

const mebibyte = 2 ** 20;
const host = localHost();
const work = { signal: new AbortController().signal, progress: () => undefined };
/** Someone who owns nothing, when there is a choice. */
const user = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : null;

let folder: string;
beforeEach(async () => {
  folder = await scratchDirectory("flat");
  chmodSync(folder, 0o777);
});

const at = (name: string) => join(folder, name);
function writeBytes(path: string, position: number, bytes: Buffer): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.length, position);
  closeSync(file);
}

/** A qcow2 disk over one that has an ext4 file system, whose journal still has something to do when asked so. */
async function makeDisk(journal: boolean): Promise<string> {
  execFileSync("mke2fs", ["-q", "-t", "ext4", at("below.raw"), "32M"]);
  truncateSync(at("below.raw"), 64 * mebibyte);
  if (journal) {
    const script = "open -w below.raw\njo\njw -b 333 /dev/zero\njc\n";
    execFileSync("debugfs", ["-w", "-f", "-"], { cwd: folder, input: script, stdio: ["pipe", "ignore", "ignore"] });
  }
  const overlay = ["-f", "qcow2", "-F", "raw", "-b", at("below.raw"), at("top.qcow2")];
  execFileSync("qemu-img", ["create", "-q", ...overlay]);
  execFileSync("qemu-io", ["-f", "qcow2", "-c", `write -P 7 ${40 * mebibyte} 4096`, at("top.qcow2")], {
    stdio: "ignore",
  });
  chmodSync(at("top.qcow2"), 0o444);
  return at("top.qcow2");
}

const features = (path: string) =>
  execFileSync("dumpe2fs", ["-h", path], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });

describe("a disk written out", () => {
  it("is what its guest saw, with holes, and stands on nothing", async () => {
    const sourcePath = await makeDisk(false);
    await flattenDisk(host, { sourcePath, targetPath: at("flat.ext4"), user }, work);
    const seen = Buffer.alloc(64 * mebibyte);
    readFileSync(at("below.raw")).copy(seen);
    seen.fill(7, 40 * mebibyte, 40 * mebibyte + 4096);
    expect(readFileSync(at("flat.ext4")).equals(seen)).toBe(true);
    const { uid, mode, blocks } = statSync(at("flat.ext4"));
    expect([uid, mode & 0o777]).toEqual([process.getuid?.(), 0o644]);
    expect(blocks * 512).toBeLessThan(32 * mebibyte);
  });

  it("has done what its journal had begun: it can be mounted without being written to", async () => {
    const sourcePath = await makeDisk(true);
    expect(features(at("below.raw"))).toContain("needs_recovery");
    await flattenDisk(host, { sourcePath, targetPath: at("flat.ext4"), user }, work);
    expect(features(at("flat.ext4"))).not.toContain("needs_recovery");
  });

  it("is refused when there is no file system in it", async () => {
    const sourcePath = await makeDisk(false);
    chmodSync(sourcePath, 0o644);
    execFileSync("qemu-io", ["-f", "qcow2", "-c", "write -z 0 32M", sourcePath], { stdio: "ignore" });
    const flat = flattenDisk(host, { sourcePath, targetPath: at("flat.ext4"), user }, work);
    await expect(flat).rejects.toMatchObject({ code: "snapshot_damaged" });
  });
});

describe("the sum of a disk", () => {
  it("is that of what it shows: other holes change nothing, a byte anywhere or another length do", async () => {
    const make = (name: string, bytes: number) => {
      execFileSync("truncate", ["--size", String(bytes), at(name)]);
      return at(name);
    };
    const sum = (path: string) => sumOfDisk(path, work);
    const one = make("one", 3 * mebibyte + 7);
    const other = make("other", 3 * mebibyte + 7);
    writeBytes(other, mebibyte, Buffer.alloc(mebibyte));
    expect(statSync(other).blocks).toBeGreaterThan(statSync(one).blocks);
    expect(await sum(other)).toBe(await sum(one));
    const sums = new Set([await sum(one), await sum(make("longer", 3 * mebibyte + 8))]);
    for (const position of [0, mebibyte, 2 * mebibyte, 3 * mebibyte + 6]) {
      const path = make(`byte-${position}`, 3 * mebibyte + 7);
      writeBytes(path, position, Buffer.from([1]));
      sums.add(await sum(path));
    }
    expect(sums.size).toBe(6);
  });
});
