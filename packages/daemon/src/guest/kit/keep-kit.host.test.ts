import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { syncedWhile } from "../../../../../test/support/synced.ts";
import { localHost } from "../../host/local.ts";
import { describeKit } from "./find-kit.ts";
import { keepKit } from "./keep-kit.ts";

const host = localHost();
const record = {
  buildId: "b1",
  sourcesId: "s",
  kernel: { package: "p", version: "1" },
  builtAt: "2026-01-01T00:00:00Z",
};

test("a kit is copied once, whole, on the disk before it has its name, and readable by all", async () => {
  const scratch = await scratchDirectory("kit");
  const clone = join(scratch, "clone");
  await mkdir(clone);
  for (const [name, text] of Object.entries({
    vmlinuz: "k",
    "initrd.img": "i",
    "memory-file": "m",
    "kit.json": JSON.stringify(record),
  }))
    await writeFile(join(clone, name), text, { mode: 0o600 });
  // What a crash left of an earlier attempt.
  await mkdir(join(scratch, "kept/.half"), { recursive: true });
  const keep = () => keepKit(host, describeKit(clone, "b1"), join(scratch, "kept"));
  const names = ["initrd.img", "kit.json", "memory-file", "vmlinuz"];
  expect([...(await syncedWhile(keep))].sort()).toEqual(
    [
      ...names.map((name) => join(scratch, "kept/.half", name)),
      `${join(scratch, "kept/.half")}/: ${names.join(" ")}`,
      `${join(scratch, "kept")}/: b1`,
    ].sort(),
  );
  const kept = await keep();
  expect(kept).toEqual(describeKit(join(scratch, "kept/b1"), "b1"));
  expect(await readdir(join(scratch, "kept"))).toEqual(["b1"]);
  expect(await readFile(kept.kernelPath, "utf8")).toBe("k");
  for (const path of [kept.kernelPath, kept.initrdPath]) expect((await stat(path)).mode & 0o777).toBe(0o644);
  expect((await stat(kept.memoryToolPath ?? "")).mode & 0o777).toBe(0o755);
  // The clone may go.
  expect(await keepKit(host, describeKit(join(scratch, "gone"), "b1"), join(scratch, "kept"))).toEqual(kept);
});
