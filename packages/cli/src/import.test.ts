import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import type { Archive, RouteName } from "@berth/api";
import tar from "tar-stream";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { scratchDirectory } from "../../../test/support/scratch.ts";
import { archive, Events, FakeBerthd, type Handler, ids, operation, Refusal } from "./testing/fake-berthd.ts";
import { type RunOptions, runBerth } from "./testing/run-berth.ts";

let berthd: FakeBerthd;
let cwd: string;
let bytes: Buffer;
beforeAll(async () => {
  const packed = tar.pack();
  packed.entry({ name: "manifest.json" }, "{}");
  packed.entry({ name: "disks/root.qcow2" }, Buffer.alloc(200 * 1024, "disk"));
  packed.finalize();
  bytes = Buffer.concat(await Readable.from(packed).toArray());
});
beforeEach(async () => {
  cwd = await scratchDirectory("import");
  writeFileSync(join(cwd, "web.berth"), bytes);
});
afterEach(() => berthd.stop());

const upload = (receivedBytes: number): Archive => ({
  ...archive,
  source: { type: "upload" },
  state: receivedBytes === bytes.length ? "ready" : "receiving",
  sizeBytes: bytes.length,
  receivedBytes,
  beginning: createHash("sha256").update(bytes.subarray(0, 65_536)).digest("hex"),
});

/** A berthd to which so much was sent before, and that keeps at most so much of what is sent at once. */
async function berth(
  line: string,
  handlers: Partial<Record<RouteName, Handler>> = {},
  { had = 0, atOnce = Number.POSITIVE_INFINITY, ...options }: RunOptions & { had?: number; atOnce?: number } = {},
) {
  const received = [bytes.subarray(0, had)];
  const arrived = () => Buffer.concat(received);
  const writeArchive: Handler = ({ headers, body }) => {
    if (headers["upload-offset"] !== String(arrived().length)) throw new Refusal(409, "upload_offset", "Elsewhere.");
    received.push(body.subarray(0, atOnce));
    if (body.length > atOnce) throw new Refusal(503, "shutting_down", "berthd is shutting down.");
    return undefined;
  };
  const listArchives = () => ({ items: had > 0 ? [upload(had)] : [], nextCursor: null });
  berthd = await FakeBerthd.start({
    listArchives,
    createArchive: () => upload(0),
    getArchive: () => upload(arrived().length),
    writeArchive,
    importInstance: () => ({ archive, operation: { ...operation, type: "instance.import" } }),
    operationLog: () => "",
    ...handlers,
  });
  const ran = await runBerth(line.split(" "), { url: berthd.url, cwd, ...options });
  return { ran, arrived: arrived() };
}

describe("import", () => {
  test("sends the file, makes the instance and prints its name", async () => {
    const { ran, arrived } = await berth(
      "import web.berth --name two -p 8081:80 -l team=b --cpus 2 -m 1G --no-start --location node1/fake",
    );
    expect(ran).toMatchObject({ code: 0, stdout: "web\n" });
    expect(arrived.equals(bytes)).toBe(true);
    const { name, sizeBytes, beginning } = { ...upload(0), name: "web.berth" };
    expect(berthd.callsOf("createArchive")[0]?.json).toEqual({ name, sizeBytes, beginning });
    expect(berthd.callsOf("importInstance")[0]?.json).toEqual({
      name: "two",
      ports: [{ hostPort: 8081, guestPort: 80 }],
      labels: { team: "b" },
      cpus: 2,
      memoryMib: 1024,
      start: false,
      location: "node1/fake",
    });
    expect(berthd.callsOf("deleteArchive")).toHaveLength(1);
  });

  test("what could not be as it was is told", async () => {
    const operationLog = () => "port 8080 of 127.0.0.1 is taken here\n";
    const { ran } = await berth("import web.berth --keep", { operationLog });
    expect(ran.stderr).toContain("port 8080 of 127.0.0.1 is taken here\n");
    expect(berthd.callsOf("importInstance")[0]?.json).toEqual({ labels: {}, start: true });
    expect(berthd.callsOf("deleteArchive")).toEqual([]);
  });

  test("an upload that breaks off is taken up again where it broke, as often as it gets further", async () => {
    const { ran, arrived } = await berth("import web.berth", {}, { atOnce: 30_000 });
    expect(ran).toMatchObject({ code: 0 });
    expect(arrived.equals(bytes)).toBe(true);
    const offsets = berthd.callsOf("writeArchive").map(({ headers }) => Number(headers["upload-offset"]));
    expect(offsets.slice(0, 3)).toEqual([0, 30_000, 60_000]);
    expect(berthd.callsOf("createArchive")).toHaveLength(1);
  });

  test("what an earlier command sent is gone on with", async () => {
    const { ran, arrived } = await berth("import web.berth", {}, { had: 100_000 });
    expect(ran.stderr).toContain("100 kB have arrived");
    expect(arrived.equals(bytes)).toBe(true);
    expect(berthd.callsOf("createArchive")).toEqual([]);
    expect(berthd.callsOf("writeArchive").map(({ headers }) => headers["upload-offset"])).toEqual(["100000"]);
  });

  test("what has arrived wholly is not sent again", async () => {
    expect((await berth("import web.berth", {}, { had: bytes.length })).ran).toMatchObject({ code: 0 });
    expect(berthd.callsOf("writeArchive")).toEqual([]);
  });

  test.each<[string, Partial<Archive>]>([
    ["another beginning", { beginning: "1".repeat(64) }],
    ["another length", { sizeBytes: 7 }],
    [
      "another origin",
      { source: { type: "export", instance: { id: ids.instance, name: "web" }, snapshot: null, environment: true } },
    ],
  ])("an upload of %s is left alone", async (_what, change) => {
    const listArchives = () => ({ items: [{ ...upload(100), ...change }], nextCursor: null });
    expect((await berth("import web.berth", { listArchives })).ran).toMatchObject({ code: 0 });
    expect(berthd.callsOf("createArchive")).toHaveLength(1);
  });

  test("a file of another kind is not sent", async () => {
    writeFileSync(join(cwd, "other.tar"), Buffer.alloc(2048, "x"));
    expect((await berth("import other.tar")).ran.stderr).toContain("not a file that berth export has written");
    expect(berthd.callsOf("createArchive")).toEqual([]);
    await berthd.stop();
    expect((await berth("import none.berth")).ran.stderr).toContain("There is no");
    expect((await berth("import -")).ran.stderr).toContain("An import is read from a file");
    expect((await berth("import /")).ran.stderr).toBe("berth: /: it is a folder.\n");
  });

  test.each([
    ["invalid_archive", 1],
    ["port_taken", 0],
  ] as const)("after %s the upload is deleted %d times", async (code, times) => {
    const error = { type: "", title: "No", status: 422, code, detail: "The archive is so.", hint: "" };
    const watchOperation = () => new Events([{ ...operation, status: "failed", error }]);
    const { ran } = await berth("import web.berth", { watchOperation });
    expect(ran.code).toBe(1);
    expect(ran.stderr).toContain("The archive is so.");
    expect(berthd.callsOf("deleteArchive")).toHaveLength(times);
  });

  test("an archive that berthd still has is imported by its id", async () => {
    expect((await berth(`import ${ids.archive} --name two`)).ran).toMatchObject({ code: 0 });
    expect(berthd.callsOf("createArchive")).toEqual([]);
    expect(berthd.callsOf("importInstance")[0]?.params).toEqual({ archive: ids.archive });
  });
});
