import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { inspectOverlay } from "./qcow2.ts";
import { createVolumesDisk } from "./volumes-disk.ts";

const host = localHost();

describe("a disk for volumes", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await scratchDirectory("vdisk");
  });

  test.each([16, 1024, 2 * 1024 * 1024])(
    "of %i MiB has an empty file system, takes next to nothing, and nothing is left beside it",
    async (sizeMib) => {
      const own = join(folder, String(sizeMib));
      await mkdir(own);
      const path = join(own, "volumes.qcow2");
      // What a creation left that was cut off.
      for (const ending of ["raw", "new"]) await writeFile(`${path}.${ending}`, "half");
      const request = { name: "volumes", path, sizeMib, user: null };
      const disk = await createVolumesDisk(host, request);
      expect(disk).toEqual({ name: "volumes", path, format: "qcow2", readOnly: false });
      expect(await readdir(own)).toEqual(["volumes.qcow2"]);
      const facts = await inspectOverlay(host, path, null);
      expect(facts).toMatchObject({ sizeBytes: sizeMib * 2 ** 20, backingPath: null });
      expect((await stat(path)).mode & 0o777).toBe(0o600);
      if (sizeMib > 1024) return;
      expect(facts?.usedBytes).toBeLessThan(4 * 2 ** 20);
      const raw = join(own, "raw");
      await host.run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", path, raw]);
      const { stdout } = await host.run("e2fsck", ["-fn", raw]);
      expect(stdout).toMatch(/: 11\/\d+ files/);
    },
  );

  test("is kept with what is on it", async () => {
    const path = join(folder, "kept.qcow2");
    const request = { name: "volumes", path, sizeMib: 64, user: null };
    await createVolumesDisk(host, request);
    await host.run("qemu-io", ["-f", "qcow2", "-c", "write -P 0x62 32M 4096", path]);
    await createVolumesDisk(host, { ...request, sizeMib: 128 });
    await host.run("qemu-io", ["-f", "qcow2", "-c", "read -P 0x62 32M 4096", path]);
    expect((await inspectOverlay(host, path, null))?.sizeBytes).toBe(64 * 2 ** 20);
  });
});
