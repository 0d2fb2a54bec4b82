import { execFileSync } from "node:child_process";
import { statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import type { HostUser } from "../core/descriptions.ts";
import type { Merge } from "../core/layers.ts";
import { localHost } from "../host/local.ts";
import { makeMerged } from "./merged-layer.ts";
import { newFolderName, SnapshotFolders } from "./snapshot-folders.ts";

const host = localHost();
const isRoot = process.getuid?.() === 0;
/** Someone who owns nothing, when there is a choice. */
const user: HostUser | null = isRoot ? { uid: 0x70000002, gid: 0x70000002 } : null;
const work = { signal: new AbortController().signal, progress: () => undefined };
const mib = 2 ** 20;

let base: string;
let folders: SnapshotFolders;

beforeEach(async () => {
  // The name of a folder may be anything.
  const scratch = join(await scratchDirectory("ml"), "a,b");
  await host.files.makeDirectory(scratch, { mode: 0o755 });
  base = join(scratch, "base.raw");
  writeFileSync(base, Buffer.alloc(4 * mib, 0x0a));
  truncateSync(base, 32 * mib);
  folders = new SnapshotFolders({ host, root: join(scratch, "snapshots"), user });
});

const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });

/** Frozen files, one over the other from the bottom up, each with what was done to it. */
async function stack(below: string | null, ...made: { size: string; commands: string[] }[]): Promise<Merge> {
  const layers: Merge["into"][] = [];
  for (const { size, commands } of made) {
    const ref = { folder: newFolderName(), disk: "root" };
    await folders.create(ref.folder, { snapshotId: "snap-1" });
    const path = folders.layerPath(ref);
    const under = layers[0] ?? null;
    const backing = under ? ["-F", "qcow2", "-b", folders.layerPath(under)] : below ? ["-F", "raw", "-b", below] : [];
    qemuImg("create", "-q", "-f", "qcow2", "-u", ...backing, path, size);
    const asked = commands.flatMap((command) => ["-c", command]);
    if (asked.length > 0) execFileSync("qemu-io", ["-d", "unmap", "-f", "qcow2", ...asked, path], { stdio: "ignore" });
    await host.files.chmod(path, user ? 0o444 : 0o400);
    layers.unshift({ ...ref, below: under, usedBytes: statSync(path).blocks * 512 });
  }
  const [into, ...hidden] = layers;
  if (!into) throw new Error("A stack has a layer.");
  return { into, hidden, onto: null };
}

const small = { size: "32M", commands: [] };

describe("a file that takes the place of several", () => {
  it.each<[string, boolean, { size: string; commands: string[] }[], number]>([
    [
      "what was written in any of them",
      true,
      [
        { size: "32M", commands: ["write -P 1 0 2M", "write -P 1 8M 2M"] },
        { size: "32M", commands: ["write -P 2 1M 2M"] },
        { size: "32M", commands: ["write -P 3 9M 64k"] },
      ],
      5,
    ],
    [
      "what was discarded, of the image and of what was written, without taking room for it",
      true,
      [
        { size: "32M", commands: ["write -P 1 16M 8M"] },
        { size: "32M", commands: ["discard 0 2M", "discard 16M 7M", "write -z 2M 1M"] },
        small,
      ],
      1,
    ],
    [
      "a disk that was grown in between",
      true,
      [
        { size: "32M", commands: ["write -P 1 31M 1M"] },
        { size: "48M", commands: ["write -P 2 40M 1M"] },
        { size: "64M", commands: ["write -P 3 63M 1M"] },
      ],
      3,
    ],
    [
      "one that stands on nothing",
      false,
      [{ size: "32M", commands: ["write -P 1 0 2M"] }, { size: "32M", commands: ["discard 0 1M"] }, small],
      1,
    ],
    ["what was written as it was below", true, [{ size: "32M", commands: ["write -P 0x0a 0 4M"] }, small], 0],
  ])(
    "shows the same, stands on what was below, and has no more than it needs: %s",
    async (_, onBase, made, mebibytes) => {
      const merge = await stack(onBase ? base : null, ...made);
      const [path, half] = [folders.layerPath(merge.into), folders.halfPath(merge.into)];
      // One that was cut off before is no matter.
      writeFileSync(half, "half");
      await makeMerged(host, folders, merge, work);
      expect(qemuImg("compare", "-f", "qcow2", "-F", "qcow2", path, half)).toContain("Images are identical");
      const info = (file: string) => JSON.parse(qemuImg("info", "--output=json", "-f", "qcow2", file));
      expect(info(half)["full-backing-filename"]).toBe(onBase ? base : undefined);
      expect(info(half)["virtual-size"]).toBe(info(path)["virtual-size"]);
      const { uid, mode, blocks } = statSync(half);
      expect([uid, mode & 0o777]).toEqual([process.getuid?.(), user ? 0o444 : 0o400]);
      // Its own tables beside.
      expect(blocks * 512).toBeLessThanOrEqual(mebibytes * mib + 0.6 * mib);
    },
  );

  it.runIf(isRoot)("has nothing in it that only root may read: the chain leads where its guest said", async () => {
    const secret = join(folders.path(""), "..", "secret.raw");
    writeFileSync(secret, Buffer.alloc(4 * mib, 0x53), { mode: 0o600 });
    const merge = await stack(secret, { size: "32M", commands: [] }, small);
    await expect(makeMerged(host, folders, merge, work)).rejects.toMatchObject({ code: "host_program_failed" });
    await host.files.chmod(secret, 0o644);
    await makeMerged(host, folders, merge, work);
  });
});
