import { BerthError } from "@berth/api";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type ByteSource, readTar } from "./tar.ts";
import { tarEnd, tarHeader, tarPadding } from "./tar-header.ts";
import { type TarItem, writeTar } from "./testing/tar-writer.ts";

function source(bytes: Buffer): ByteSource {
  return { size: bytes.length, read: (buffer, position) => bytes.copy(buffer, 0, position) };
}
const refuse = (why: string) => new BerthError("unsafe_image", `It is ${why}.`);
const read = (bytes: Buffer) => [...readTar(source(bytes), refuse)];

describe("readTar", () => {
  test("reads what is written, binary attributes and names included", () => {
    const capability = Buffer.from([1, 0, 0, 2, 0, 4, 0, 0, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    const items: TarItem[] = [
      { path: "f", content: "hello", mode: 0o4755, uid: 1, gid: 2, mtime: 5 },
      {
        path: "short",
        content: "x",
        pax: {
          path: `\xff\xfe/${"long".repeat(60)}`,
          mtime: "-1.25",
          uid: "3000000000",
          "SCHILY.xattr.security.capability": capability,
        },
      },
      { path: "d/", type: "5", mode: 0o1777 },
      { path: "v7-directory/" },
    ];
    const [plain, extended, directory, old] = read(writeTar(items));
    expect(plain).toMatchObject({ path: "f", kind: "file", mode: 0o4755, uid: 1, gid: 2, size: 5, offset: 512 });
    expect(plain?.mtime).toEqual({ seconds: 5, nanoseconds: 0 });
    expect(extended).toMatchObject({ path: `\xff\xfe/${"long".repeat(60)}`, uid: 3_000_000_000 });
    expect(extended?.mtime).toEqual({ seconds: -2, nanoseconds: 750_000_000 });
    expect(extended?.xattrs.get("security.capability")).toEqual(capability);
    expect(directory).toMatchObject({ kind: "directory", mode: 0o1777 });
    expect(old).toMatchObject({ kind: "directory" });
  });

  test("reads GNU's long names and links", () => {
    const items: TarItem[] = [
      { path: "././@LongLink", type: "L", content: `${"n".repeat(150)}\0` },
      { path: "././@LongLink", type: "K", content: `${"t".repeat(150)}\0` },
      { path: "cut", type: "2", target: "cut" },
    ];
    expect(read(writeTar(items))).toMatchObject([{ path: "n".repeat(150), target: "t".repeat(150), kind: "symlink" }]);
  });

  test.each<[string, Buffer]>([
    ["one cut inside a header", writeTar([{ path: "a" }]).subarray(0, 100)],
    ["one cut inside a file", writeTar([{ path: "a", content: "x".repeat(2000) }]).subarray(0, 1024)],
    ["a sparse entry", writeTar([{ path: "a", type: "S" }])],
    ["a sparse entry of pax", writeTar([{ path: "a", pax: { "GNU.sparse.major": "1" } }])],
    ["an unknown type", writeTar([{ path: "a", type: "Z" }])],
    [
      "a pax record that lies about its length",
      writeTar([{ path: "p", type: "x", content: "99 path=b\n" }, { path: "a" }]),
    ],
    ["extended headers without end", writeTar(Array.from({ length: 200 }, () => ({ path: "g", type: "g" })))],
    ["a pax size beyond the archive", writeTar([{ path: "a", pax: { size: "99999999" } }])],
  ])("%s is refused", (_what, bytes) => {
    expect(() => read(bytes)).toThrow(BerthError);
    expect(() => read(bytes)).toThrow(/^It is not a sound tar archive: /);
  });

  test("a changed header is noticed", () => {
    const bytes = writeTar([{ path: "a" }]);
    bytes[0] = 0x62;
    expect(() => read(bytes)).toThrow(/wrong checksum/);
  });

  test("any bytes are refused with words, never another error, and never endlessly", () => {
    const noise = fc.uint8Array({ maxLength: 3000 });
    fc.assert(
      fc.property(noise, fc.nat(1023), (bytes, at) => {
        const archive = writeTar([{ path: "a", pax: { mtime: "1.5" }, content: "abc" }]);
        Buffer.from(bytes).copy(archive, Math.min(at, archive.length));
        try {
          read(archive);
        } catch (error) {
          expect(error).toBeInstanceOf(BerthError);
        }
      }),
    );
  });
});

describe("tarHeader", () => {
  test("is read back, whatever the size", () => {
    for (const size of [0, 1, 511, 512, 8 * 2 ** 30 - 1, 8 * 2 ** 30, 2 ** 52]) {
      const header = tarHeader({ path: "disks/root.qcow2", size, mtimeSeconds: 1_700_000_000 });
      const all: ByteSource = { size: 2 ** 53 - 1, read: (buffer, position) => header.copy(buffer, 0, position) };
      const [entry] = readTar(all, refuse);
      expect(entry).toMatchObject({ path: "disks/root.qcow2", kind: "file", mode: 0o600, uid: 0, size, offset: 512 });
      expect(entry?.mtime.seconds).toBe(1_700_000_000);
      expect((512 + size + tarPadding(size)) % 512).toBe(0);
    }
  });

  test("has a name of at most 100 bytes", () => {
    expect(() => tarHeader({ path: "x".repeat(101), size: 0, mtimeSeconds: 0 })).toThrow("100 bytes");
    expect(tarEnd.equals(Buffer.alloc(1024))).toBe(true);
  });
});
