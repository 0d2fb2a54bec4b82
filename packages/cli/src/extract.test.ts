import { existsSync, lstatSync, mkdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import tar, { type Header } from "tar-stream";
import { beforeEach, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { type Care, extractInto } from "./extract.ts";

type Entry = Partial<Header> & { name: string } & { content?: string };

async function* archive(entries: readonly Entry[]): AsyncGenerator<Uint8Array, void> {
  const pack = tar.pack();
  for (const { content, ...header } of entries) pack.entry(header, content ?? "");
  pack.finalize();
  yield* pack as unknown as AsyncIterable<Uint8Array>;
}

let scratch: string;
let target: string;
const outside = () => join(scratch, "outside");
beforeEach(async () => {
  scratch = await scratchDirectory("extract");
  target = join(scratch, "target");
  mkdirSync(outside());
  writeFileSync(join(outside(), "precious"), "precious");
});

describe("an honest archive", () => {
  test("becomes the target, with modes and times, without set-id bits", async () => {
    const mtime = new Date("2020-01-01T00:00:00Z");
    const copied = await extractInto(
      target,
      archive([
        { name: "www/", type: "directory", mode: 0o555, mtime },
        { name: "www/a", mode: 0o4755, mtime, content: "hello" },
        { name: "www/in/b", content: "deep" },
        { name: "www/link", type: "symlink", linkname: "in/b" },
        { name: "www/hard", type: "link", linkname: "www/a" },
      ]),
    );
    expect(copied).toEqual({ files: 4, bytes: 9, skipped: [] });
    expect(readFileSync(join(target, "link"), "utf8")).toBe("deep");
    expect(readFileSync(join(target, "hard"), "utf8")).toBe("hello");
    expect(lstatSync(join(target, "a")).mode & 0o7777).toBe(0o755);
    expect(lstatSync(join(target, "a")).mtime).toEqual(mtime);
    expect(lstatSync(target).mode & 0o777).toBe(0o555);
    expect(lstatSync(target).mtime).toEqual(mtime);
  });

  test("one file becomes the target itself", async () => {
    await extractInto(target, archive([{ name: "motd", content: "hi" }]));
    expect(readFileSync(target, "utf8")).toBe("hi");
  });

  test("devices, and links that lead out, are left out with a word", async () => {
    const copied = await extractInto(
      target,
      archive([
        { name: "dev/", type: "directory" },
        { name: "dev/null", type: "character-device" },
        { name: "dev/passwd", type: "symlink", linkname: "/etc/passwd" },
      ]),
    );
    expect(copied.skipped).toHaveLength(2);
    expect(existsSync(join(target, "passwd"))).toBe(false);
  });
});

test("no link of a copy leads out of it, however they lead to each other", async () => {
  const entries: readonly Entry[] = [
    { name: "x/a/b/", type: "directory" },
    { name: "x/a/b/up", type: "symlink", linkname: "../.." },
    { name: "x/out", type: "symlink", linkname: "a/b/up/../outside/precious" },
    { name: "x/a/back", type: "symlink", linkname: "../a/b" },
  ];
  const copied = await extractInto(target, archive(entries));
  expect(existsSync(join(target, "out"))).toBe(false);
  expect(copied.skipped).toHaveLength(1);
  expect(readlinkSync(join(target, "a/back"))).toBe("../a/b");
  await extractInto(target, archive(entries), { checkPaths: true, checkLinks: false });
  expect(readFileSync(join(target, "out"), "utf8")).toBe("precious");
});

/** Each attack writes `outside/evil` or changes `outside/precious` when the protection that stands against it is off. */
describe("a hostile archive", () => {
  const leadsOut: Entry = { name: "x/a", type: "symlink", linkname: "../outside" };
  const careless: Partial<Record<string, Care>> = {
    paths: { checkPaths: false, checkLinks: true },
    links: { checkPaths: true, checkLinks: false },
  };
  const attacks: readonly { title: string; off: string; entries: readonly Entry[]; before?: () => void }[] = [
    { title: "a name with ..", off: "paths", entries: [{ name: "x/../outside/evil", content: "evil" }] },
    { title: "a folder with ..", off: "paths", entries: [{ name: "x/../outside/evil/", type: "directory" }] },
    {
      title: "a file through a link of its own",
      off: "links",
      entries: [leadsOut, { name: "x/a/evil", content: "evil" }],
    },
    {
      title: "a folder through a link of its own",
      off: "links",
      entries: [leadsOut, { name: "x/a/evil/", type: "directory" }],
    },
    {
      title: "a file through a link that was there before",
      off: "links",
      before: () => {
        mkdirSync(target);
        symlinkSync(outside(), join(target, "a"));
      },
      entries: [{ name: "x/a/evil", content: "evil" }],
    },
    {
      title: "a hard link through a link, written to by the next entry's name",
      off: "links",
      entries: [leadsOut, { name: "x/own", type: "link", linkname: "x/a/precious" }],
    },
  ];

  function harmed(): boolean {
    const precious = lstatSync(join(outside(), "precious"));
    return (
      existsSync(join(outside(), "evil")) ||
      precious.nlink > 1 ||
      readFileSync(join(outside(), "precious"), "utf8") !== "precious"
    );
  }

  test.each(attacks)("$title does no harm", async ({ entries, before }) => {
    before?.();
    await extractInto(target, archive(entries)).catch(() => {});
    expect(harmed()).toBe(false);
  });

  test.each(attacks)("$title would, without the protection", async ({ entries, before, off }) => {
    before?.();
    await extractInto(target, archive(entries), careless[off]).catch(() => {});
    expect(harmed()).toBe(true);
  });

  test("what is there is replaced, not written through", async () => {
    mkdirSync(target);
    symlinkSync(join(outside(), "precious"), join(target, "a"));
    await extractInto(target, archive([{ name: "x/a", content: "evil" }]));
    expect(readFileSync(join(outside(), "precious"), "utf8")).toBe("precious");
    expect(() => readlinkSync(join(target, "a"))).toThrow();
  });

  test("a folder takes no file's place, at the top or further in", async () => {
    writeFileSync(target, "mine");
    const folder = { name: "x/", type: "directory" } as const;
    await expect(extractInto(target, archive([folder]))).rejects.toThrow("is no folder; the guest has one there");
    expect(readFileSync(target, "utf8")).toBe("mine");
    const merged = join(scratch, "merged");
    mkdirSync(merged);
    writeFileSync(join(merged, "in"), "mine");
    const inner = { name: "x/in/", type: "directory" } as const;
    await expect(extractInto(merged, archive([folder, inner]))).rejects.toThrow("is no folder");
    expect(readFileSync(join(merged, "in"), "utf8")).toBe("mine");
  });

  test("an archive that breaks off is an error", async () => {
    const whole: Uint8Array[] = [];
    for await (const chunk of archive([{ name: "x", content: "a".repeat(5000) }])) whole.push(chunk);
    const half = Buffer.concat(whole).subarray(0, 2000);
    await expect(
      extractInto(
        target,
        (async function* () {
          yield half;
        })(),
      ),
    ).rejects.toThrow();
  });
});
