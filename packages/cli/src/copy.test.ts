import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { RouteName } from "@berth/api";
import tar from "tar-stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { FakeBerthd, type Handler, Refusal } from "./testing/fake-berthd.ts";
import { type RunOptions, runBerth } from "./testing/run-berth.ts";

let berthd: FakeBerthd;
let cwd: string;
beforeEach(async () => {
  cwd = await scratchDirectory("copy");
  mkdirSync(join(cwd, "site/in"), { recursive: true });
  writeFileSync(join(cwd, "site/in/page"), "page");
});
afterEach(() => berthd.stop());

async function pack(entries: Readonly<Record<string, string>>): Promise<Buffer> {
  const packed = tar.pack();
  for (const [name, content] of Object.entries(entries)) {
    if (name.endsWith("/")) packed.entry({ name, type: "directory" });
    else packed.entry({ name }, content);
  }
  packed.finalize();
  return Buffer.concat(await Readable.from(packed).toArray());
}

async function unpack(archive: Buffer): Promise<Record<string, string>> {
  const extract = tar.extract();
  extract.end(archive);
  const found: Record<string, string> = {};
  for await (const entry of extract)
    found[entry.header.name] = Buffer.concat(await Readable.from(entry).toArray()).toString();
  return found;
}

/** A guest with a folder /srv, a file /etc/motd and nothing else. */
async function cp(line: string, options: RunOptions = {}) {
  const [srv, motd] = await Promise.all([pack({ "srv/": "", "srv/a": "A" }), pack({ motd: "hi" })]);
  const readFiles: Handler = ({ query }) => {
    if (query.get("path") === "/srv") return srv;
    if (query.get("path") === "/etc/motd") return motd;
    throw new Refusal(404, "path_not_found", `${query.get("path")}: No such file or directory`);
  };
  const handlers: Partial<Record<RouteName, Handler>> = { readFiles, writeFiles: () => undefined };
  berthd = await FakeBerthd.start(handlers);
  return runBerth(["cp", ...line.split(" ")], { url: berthd.url, cwd, ...options });
}

test.each([
  ["./site web:/srv", "/srv", { "site/": "", "site/in/": "", "site/in/page": "page" }],
  ["./site/. web:/srv", "/srv", { "./": "", "./in/": "", "./in/page": "page" }],
  ["./site web:/new", "/", { "new/": "", "new/in/": "", "new/in/page": "page" }],
  ["site/in/page web:/srv/", "/srv", { page: "page" }],
  ["site/in/page web:/etc/motd", "/etc", { motd: "page" }],
] as const)("in: %s", async (line, folder, entries) => {
  expect(await cp(line)).toEqual({ code: 0, stdout: "", stderr: "" });
  const [call] = berthd.callsOf("writeFiles");
  expect(call?.query.get("path")).toBe(folder);
  expect(await unpack(call?.body ?? Buffer.alloc(0))).toEqual(entries);
});

test.each([
  ["web:/srv site", "site/srv/a", "A"],
  ["web:/srv new", "new/a", "A"],
  ["web:/srv/. site", "site/a", "A"],
  ["web:/etc/motd .", "motd", "hi"],
  ["web:etc/motd other", "other", "hi"],
])("out: %s", async (line, path, content) => {
  expect(await cp(line)).toMatchObject({ code: 0 });
  expect(readFileSync(join(cwd, path), "utf8")).toBe(content);
});

test("out: a folder takes no file's place, and no folder is made for it", async () => {
  writeFileSync(join(cwd, "keep"), "precious");
  expect(await cp("web:/srv keep")).toMatchObject({ code: 1, stderr: expect.stringContaining("is no folder") });
  expect(readFileSync(join(cwd, "keep"), "utf8")).toBe("precious");
  await berthd.stop();
  expect(await cp("web:/srv nowhere/new")).toMatchObject({ code: 1, stderr: expect.stringContaining("mkdir -p") });
  expect(existsSync(join(cwd, "nowhere"))).toBe(false);
});

test("an archive through standard input, as it is", async () => {
  expect(await cp("- web:/srv", { input: "an archive" })).toMatchObject({ code: 0 });
  expect(String(berthd.callsOf("writeFiles")[0]?.body)).toBe("an archive");
});

test("an archive is not for a terminal", async () => {
  expect(await cp("web:/srv -", { terminal: true })).toMatchObject({ code: 2 });
});

test("--json tells what was copied", async () => {
  expect(JSON.parse((await cp("web:/srv new --json")).stdout)).toEqual({ files: 1, bytes: 1, skipped: [] });
});

test.each([
  ["a b", 2],
  ["web:/a db:/b", 2],
  ["./nowhere web:/srv", 1],
  ["web:/nowhere .", 1],
  ["./site web:/etc/motd", 1],
  ["web:/srv nowhere/", 1],
])("%s is refused", async (line, code) => {
  expect((await cp(line)).code).toBe(code);
});
