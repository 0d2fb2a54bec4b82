import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { type Archive, createClient, type RouteName } from "@berth/api";
import tar from "tar-stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../../../test/support/eventually.ts";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import {
  archive,
  Bytes,
  type Call,
  FakeBerthd,
  type Handler,
  ids,
  instance,
  Refusal,
  snapshot,
} from "./testing/fake-berthd.ts";
import { type RunOptions, runBerth } from "./testing/run-berth.ts";

let berthd: FakeBerthd;
let cwd: string;
beforeEach(async () => {
  cwd = await scratchDirectory("export");
});
afterEach(() => berthd.stop());

const sum = (content: Uint8Array) => createHash("sha256").update(content).digest("hex");

/** An archive of 200 KiB whose checksums are right, or not. */
async function archiveBytes(right = true): Promise<Buffer> {
  const files: [string, Buffer][] = [
    ["manifest.json", Buffer.from("{}")],
    ["disks/root.qcow2", Buffer.alloc(200 * 1024, "disk")],
  ];
  const packed = tar.pack();
  for (const [name, content] of files) packed.entry({ name }, content);
  const sums = files.map(([name, content]) => `${sum(right ? content : Buffer.from("other"))}  ${name}\n`);
  packed.entry({ name: "SHA256SUMS" }, sums.join(""));
  packed.finalize();
  return Buffer.concat(await Readable.from(packed).toArray());
}

const exported = {
  type: "export",
  instance: { id: ids.instance, name: "web" },
  snapshot: null,
  environment: true,
} as const;
const bytes = await archiveBytes();
const known = (content: Buffer): Archive => ({
  ...archive,
  sizeBytes: content.length,
  beginning: sum(content.subarray(0, 65_536)),
});

/** The part of an archive that a request asks for. */
function partFor({ headers }: Call, content = bytes): { start: number; rest: Buffer } {
  const start = Number(/^bytes=(\d+)-$/.exec(headers.range ?? "")?.[1] ?? 0);
  return { start, rest: content.subarray(start) };
}

async function berth(line: string, handlers: Partial<Record<RouteName, Handler>> = {}, options: RunOptions = {}) {
  const readArchive: Handler = (call) => {
    const { start, rest } = partFor(call);
    return new Bytes(rest, start > 0 ? 206 : 200);
  };
  const off = { ...instance, status: { ...instance.status, phase: "stopped", startedAt: null } };
  berthd = await FakeBerthd.start({
    getInstance: () => off,
    getArchive: () => known(bytes),
    listArchives: () => ({ items: [], nextCursor: null }),
    readArchive,
    ...handlers,
  });
  return runBerth(line.split(" "), { url: berthd.url, cwd, ...options });
}

const file = (name: string) => join(cwd, name);
/** Resolves when so many bytes of the download are on disk, or nobody waits any more. */
const here = (count: number) => () =>
  eventually(() => expect(statSync(file("web.berth.part")).size).toBeGreaterThanOrEqual(count)).catch(() => {});

describe("export", () => {
  test("writes the file, checks it, prints its name and leaves nothing on the node", async () => {
    const ran = await berth("export web");
    expect(ran).toMatchObject({ code: 0, stdout: `${file("web.berth")}\n` });
    expect(readFileSync(file("web.berth")).equals(bytes)).toBe(true);
    expect(existsSync(file("web.berth.part"))).toBe(false);
    expect(berthd.callsOf("exportInstance")[0]?.query.get("environment")).toBe("true");
    expect(berthd.callsOf("deleteArchive")).toHaveLength(1);
  });

  test("--without-env, -o, --keep and --json", async () => {
    const ran = await berth("export web --without-env -o there.berth --keep --json");
    expect(JSON.parse(ran.stdout)).toMatchObject({ file: file("there.berth"), sizeBytes: bytes.length });
    expect(berthd.callsOf("exportInstance")[0]?.query.get("environment")).toBe("false");
    expect(berthd.callsOf("deleteArchive")).toEqual([]);
  });

  test("where it cannot be written is said before anything is begun; into a folder goes a file of its name", async () => {
    for (const [where, code, words] of [
      ["-", 2, "is written into a file"],
      ["/nonexistent/web.berth", 1, "berth: /nonexistent: there is no such file or folder.\n"],
    ] as const) {
      const ran = await berth(`export web -o ${where}`);
      expect(ran).toMatchObject({ code, stderr: expect.stringContaining(words) });
      expect(berthd.callsOf("exportInstance")).toEqual([]);
      await berthd.stop();
    }
    mkdirSync(file("folder"));
    expect(await berth("export web -o folder")).toMatchObject({ code: 0, stdout: `${file("folder/web.berth")}\n` });
  });

  test("a file that is there stays, unless it is to be overwritten", async () => {
    writeFileSync(file("web.berth"), "precious");
    const ran = await berth("export web");
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("is there already");
    expect(readFileSync(file("web.berth"), "utf8")).toBe("precious");
    expect(berthd.callsOf("exportInstance")).toEqual([]);
    await berthd.stop();
    expect(await berth("export web --force")).toMatchObject({ code: 0 });
    expect(readFileSync(file("web.berth")).equals(bytes)).toBe(true);
  });

  test("a download that breaks off is taken up again where it broke, as often as it gets further", async () => {
    const starts: number[] = [];
    const readArchive: Handler = (call) => {
      const { start, rest } = partFor(call);
      starts.push(start);
      const isLast = rest.length <= 20_000;
      return new Bytes(rest.subarray(0, 20_000), start > 0 ? 206 : 200, isLast ? undefined : here(start + 20_000));
    };
    expect(await berth("export web", { readArchive })).toMatchObject({ code: 0 });
    expect(readFileSync(file("web.berth")).equals(bytes)).toBe(true);
    expect(starts.length).toBeGreaterThan(6);
    expect(starts).toEqual(starts.toSorted((a, b) => a - b));
    expect(berthd.callsOf("exportInstance")).toHaveLength(1);
  }, 20_000);

  test("what an earlier command fetched is gone on with, when its beginning is the same", async () => {
    writeFileSync(file("web.berth.part"), bytes.subarray(0, 100_000));
    const listArchives = () => ({ items: [known(bytes)], nextCursor: null });
    const ran = await berth("export web", { listArchives });
    expect(ran.stderr).toContain("100 kB are here");
    expect(berthd.callsOf("exportInstance")).toEqual([]);
    expect(berthd.callsOf("readArchive").map(({ headers }) => headers.range)).toEqual(["bytes=100000-"]);
    expect(readFileSync(file("web.berth")).equals(bytes)).toBe(true);
  });

  test.each<[string, Buffer, Partial<Archive>]>([
    ["has another beginning", Buffer.alloc(100_000, "other"), {}],
    ["is too short to tell", bytes.subarray(0, 1000), {}],
    ["is longer than the archive", bytes, { sizeBytes: 70_000 }],
    ["is of an archive with secrets, which are not wanted", bytes, { source: { ...exported, environment: false } }],
    ["is of another instance", bytes, { source: { ...exported, instance: { id: "i-00000000000000002", name: "db" } } }],
    ["is of an archive that is older than the last run", bytes, { createdAt: "2025-01-01T00:00:00.000Z" }],
  ])("what is here is fetched anew when it %s", async (_what, part, change) => {
    writeFileSync(file("web.berth.part"), part);
    const listArchives = () => ({ items: [{ ...known(bytes), ...change }], nextCursor: null });
    expect(await berth("export web", { listArchives })).toMatchObject({ code: 0 });
    expect(berthd.callsOf("exportInstance")).toHaveLength(1);
    expect(berthd.callsOf("readArchive")[0]?.headers.range).toBeUndefined();
    expect(readFileSync(file("web.berth")).equals(bytes)).toBe(true);
  });

  test("what does not fit its checksums is not kept", async () => {
    const wrong = await archiveBytes(false);
    const readArchive = () => new Bytes(wrong, 200);
    const ran = await berth("export web", { readArchive, getArchive: () => known(wrong) });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("do not fit their checksums");
    expect([file("web.berth"), file("web.berth.part")].filter(existsSync)).toEqual([]);
  });

  test("what is refused is not tried again", async () => {
    const readArchive = () => {
      throw new Refusal(404, "not_found", "There is no archive.");
    };
    const ran = await berth("export web", { readArchive });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("There is no archive.");
    expect(berthd.callsOf("readArchive")).toHaveLength(1);
  });

  test("a proxy that sends files from their beginning only is not believed", async () => {
    await berth("archive ls", { readArchive: () => new Bytes(bytes, 200) });
    const client = createClient({ url: berthd.url, token: "t" });
    const asked = client.readArchive({ params: { archive: ids.archive } }, { fromByte: 100 });
    await expect(asked).rejects.toThrow("from their beginning only");
  });

  test("Ctrl-C leaves what is here, and says how to go on", async () => {
    const readArchive: Handler = (call) => new Bytes(partFor(call).rest.subarray(0, 90_000), 200, here(90_001));
    const pressed: RunOptions["during"] = ({ interrupt }) => void here(90_000)().then(interrupt);
    const ran = await berth("export web", { readArchive }, { during: pressed });
    expect(ran.code).toBe(130);
    expect(ran.stderr).toContain("give the same command again");
    expect(readFileSync(file("web.berth.part")).length).toBe(90_000);
  });

  test.each([["--snapshot point"], [ids.snapshot]])("a snapshot is exported: %s", async (words) => {
    const { file: there } = JSON.parse((await berth(`export ${words} --json`)).stdout);
    expect(there).toBe(file(`${snapshot.name}.berth`));
    expect(berthd.callsOf("exportInstance")).toEqual([]);
    expect(berthd.callsOf("exportSnapshot")[0]?.params).toEqual({ snapshot: snapshot.id });
  });

  test("an archive that berthd still has is fetched by its id", async () => {
    expect(await berth(`export ${ids.archive}`)).toMatchObject({ code: 0, stdout: `${file("web.berth")}\n` });
    expect(berthd.callsOf("exportInstance")).toEqual([]);
  });
});

test("archive ls and rm", async () => {
  const listArchives = () => ({ items: [archive], nextCursor: null });
  const ran = await berth("archive ls", { listArchives });
  expect(ran.stdout).toMatch(/^FILE +ID +STATE +SIZE +AGE\nweb\.berth +arc-00000000000000001 +ready +1\.0 kB/);
  await berthd.stop();
  expect(await berth(`archive rm ${ids.archive}`)).toMatchObject({ code: 0, stdout: `${ids.archive}\n` });
});
