import { createHash } from "node:crypto";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { BerthError } from "@berth/api";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import type { TarItem } from "../core/testing/tar-writer.ts";
import { ArchiveWriter } from "./archive-writer.ts";
import { maxManifestBytes } from "./manifest.ts";
import { openArchive, verifyArchive } from "./read-archive.ts";
import { archiveOf, draftOf, soundItems } from "./testing/make-archive.ts";

const never = new AbortController().signal;
const verifying = { signal: never, progress: () => undefined };
const disk = Buffer.from("a disk".repeat(500));

let folder: string;
beforeAll(async () => {
  folder = await scratchDirectory("archives");
});

let count = 0;
/** A file with this content. */
async function fileWith(content: Buffer): Promise<string> {
  count += 1;
  const path = join(folder, `${count}.berth`);
  await writeFile(path, content);
  return path;
}

async function write(path: string, disks: Readonly<Record<string, Buffer>>): Promise<void> {
  const writer = await ArchiveWriter.begin(path, draftOf(...Object.keys(disks)));
  for (const [name, content] of Object.entries(disks)) {
    const offset = await writer.beginDisk();
    expect((await readFile(path)).length).toBe(offset);
    await appendFile(path, content);
    await writer.endDisk(name, 64 * 2 ** 20, never);
  }
  await writer.finish();
  await writer.close();
}

describe("an archive", () => {
  test("has what was put into it, and its beginning names all that follows", async () => {
    const path = join(folder, "written.berth");
    const disks = { root: disk, "var-lib": Buffer.alloc(3 * 2 ** 20, "x"), empty: Buffer.from("q") };
    await write(path, disks);
    const archive = openArchive(path);
    await verifyArchive(path, archive, verifying);
    const { instance, image, environment } = draftOf(...Object.keys(disks));
    expect(archive.manifest).toMatchObject({ version: 1, instance, image, environment });
    const bytes = await readFile(path);
    for (const [index, [name, content]] of Object.entries(disks).entries()) {
      const { path: inside, offset, size, sha256 } = archive.disks[index] ?? expect.fail("a disk is missing");
      expect(inside).toBe(`disks/${name}.qcow2`);
      expect(bytes.subarray(offset, offset + size).equals(content)).toBe(true);
      expect(sha256).toBe(createHash("sha256").update(content).digest("hex"));
      expect(bytes.subarray(0, 4096).includes(sha256)).toBe(true);
    }
  });

  test("is the same bytes for the same content", async () => {
    const [one, other] = [join(folder, "one.berth"), join(folder, "other.berth")];
    for (const path of [one, other]) await write(path, { root: disk });
    expect((await readFile(one)).equals(await readFile(other))).toBe(true);
  });

  test("put together by another tar is one too", async () => {
    const path = await fileWith(Buffer.concat([archiveOf(soundItems(disk)), Buffer.alloc(8192)]));
    await verifyArchive(path, openArchive(path), verifying);
  });
});

const [manifest, root, sums] = soundItems(disk);
const place = { path: "disks/root.qcow2" };
const withSpec = (spec: object) => {
  const { instance } = draftOf("root");
  return soundItems(disk, { instance: { ...instance, spec: { ...instance.spec, ...spec } } });
};

describe("a hostile archive is refused: one", () => {
  test.each<[string, readonly TarItem[], RegExp]>([
    ["that is empty", [], /cut short/],
    ["without a manifest first", [root, manifest, sums], /where manifest\.json belongs/],
    ["with an absolute path", [manifest, { ...root, path: "/etc/passwd" }, sums], /has "\/etc\/passwd" where/],
    ["with a path that leads out", [manifest, { ...root, path: "../../root.qcow2" }, sums], /has "\.\.\/\.\.\/root/],
    ["with a path by a long way round", [manifest, { ...root, path: "disks/../disks/root.qcow2" }, sums], /where/],
    ["with a path only its extended header has", [manifest, { ...root, pax: { path: "/x" } }, sums], /has "\/x"/],
    ["with a symbolic link", [manifest, { ...place, type: "2", target: "/etc/shadow" }, sums], /has a symlink where/],
    ["with a hard link", [manifest, { ...place, type: "1", target: "manifest.json" }, sums], /has a hardlink where/],
    ["with a device", [manifest, { ...place, type: "3" }, sums], /has a device where/],
    ["with a pipe", [manifest, { ...place, type: "6" }, sums], /has a fifo where/],
    ["with a folder", [manifest, { ...place, type: "5" }, sums], /has a directory where/],
    ["with a sparse file", [manifest, { ...root, pax: { "GNU.sparse.major": "1" } }, sums], /sparse/],
    ["with an entry twice", [manifest, root, root, sums], /where SHA256SUMS belongs/],
    ["with an entry more", [manifest, root, sums, { path: "more" }], /goes on behind SHA256SUMS/],
    ["without its disk", [manifest, sums], /where disks\/root\.qcow2 belongs/],
    ["without checksums", [manifest, root], /where SHA256SUMS belongs: it was cut short/],
    ["with a checksum too few", [manifest, root, { ...sums, content: "" }], /no checksum of each/],
    ["with checksums of other files", [manifest, root, { ...sums, content: `${"0".repeat(64)}  x\n` }], /no checksum/],
    [
      "whose two checksums differ",
      [
        manifest,
        root,
        { ...sums, content: String(sums.content).replace(/^(\w+ {2}\S+\n)\w{64}/, `$1${"0".repeat(64)}`) },
      ],
      /two different checksums/,
    ],
    [
      "whose disk is shorter than it says",
      [manifest, { ...root, content: disk.subarray(1) }, sums],
      /has a file of 2999/,
    ],
    ["whose manifest is no JSON", [{ ...manifest, content: "{" }, root, sums], /cannot be read/],
    ["of something else", soundItems(disk, { format: "ova" }), /was not made by berth export/],
    ["of a later version", soundItems(disk, { version: 2 }), /has format version 2; this berthd reads version 1/],
    ["of a version that is a novel", soundItems(disk, { version: "x".repeat(9999) }), /^.{0,120}$/],
    ["with something unknown in its spec", withSpec({ privileged: true }), /instance\.spec: .*privileged/],
    ["with a spec no request could have", withSpec({ memoryMib: -1 }), /instance\.spec\.memoryMib/],
    ["whose disks are not its instance's", withSpec({ disks: [{ name: "other", sizeMib: 64 }] }), /other disks/],
    [
      "with a disk twice",
      soundItems(disk, {
        disks: ["root", "root"].map((name) => ({ name, sizeBytes: 1, fileBytes: 1, sha256: "0".repeat(64) })),
      }),
      /twice/,
    ],
    [
      "whose disk has the name of a path",
      soundItems(disk, { disks: [{ name: "../root", sizeBytes: 1, fileBytes: 1, sha256: "0".repeat(64) }] }),
      /disks\.0\.name/,
    ],
  ])("%s", async (_what, items, words) => {
    const path = await fileWith(archiveOf(items));
    expect(() => openArchive(path)).toThrow(BerthError);
    expect(() => openArchive(path)).toThrow(words);
  });

  test("with a huge manifest, which is not read", async () => {
    const huge = { ...manifest, content: Buffer.alloc(maxManifestBytes + 1, " ") };
    const path = await fileWith(archiveOf([huge, root, sums]));
    expect(() => openArchive(path)).toThrow(/has a manifest\.json of 16777217 bytes; at most 16777216 are read/);
  });

  test("of bytes flipped anywhere in its files, cut short anywhere, or of no sense at all", async () => {
    const whole = archiveOf(soundItems(disk));
    const end = whole.length - 1024;
    const contents = whole.length - 2048;
    const refused = async (bytes: Buffer) => {
      const path = await fileWith(bytes);
      const tried = async () => verifyArchive(path, openArchive(path), verifying);
      await expect(tried()).rejects.toThrow(BerthError);
    };
    await fc.assert(
      fc.asyncProperty(
        fc.nat(contents),
        fc.nat(end - 512),
        fc.uint8Array({ maxLength: 2000 }),
        async (at, cut, noise) => {
          const flipped = Buffer.from(whole);
          flipped[at] = (flipped[at] ?? 0) ^ 0x10;
          const entries = openArchive(await fileWith(whole));
          const matters = [entries.manifestEntry, ...entries.disks].some(
            ({ offset, size }) => at >= offset && at < offset + size,
          );
          if (matters) await refused(flipped);
          await refused(whole.subarray(0, cut));
          await refused(Buffer.from(noise));
        },
      ),
      { numRuns: 100 },
    );
  });
});

test("verifying ends when it is stopped", async () => {
  const path = await fileWith(archiveOf(soundItems(disk)));
  const stop = new AbortController();
  stop.abort(new Error("enough"));
  await expect(verifyArchive(path, openArchive(path), { ...verifying, signal: stop.signal })).rejects.toThrow();
});

test("without checking contents a damaged disk would pass", async () => {
  const damaged = Buffer.from(disk);
  damaged[10] = 0;
  const path = await fileWith(archiveOf([manifest, { ...root, content: damaged }, sums]));
  const archive = openArchive(path);
  await expect(verifyArchive(path, archive, verifying)).rejects.toThrow(/disks\/root\.qcow2 does not fit its checksum/);
});
