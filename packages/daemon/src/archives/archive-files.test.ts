import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { beforeEach, expect, test } from "vitest";
import { eventually } from "../../../../test/support/eventually.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";
import { ArchiveFiles } from "./archive-files.ts";

const never = new AbortController().signal;
const id = "arc-00000000000000001";

let files: ArchiveFiles;
beforeEach(async () => {
  files = new ArchiveFiles({ host: localHost(), directory: join(await scratchDirectory("arrive"), "archives") });
});

const send = (offset: number, body: Readable | string, sizeBytes = 10, signal = never) =>
  files.receive(
    { id, offset, sizeBytes, body: typeof body === "string" ? Readable.from([Buffer.from(body)]) : body },
    signal,
    () => {},
  );

test("what arrives in parts becomes the file", async () => {
  expect(await send(0, "0123")).toBe(4);
  expect(await files.size(id)).toBe(4);
  expect(await send(4, "456789")).toBe(10);
  expect(await files.size(id)).toBe(10);
  expect(await readFile(files.path(id), "utf8")).toBe("0123456789");
  expect(await send(10, "")).toBe(10);
  for (let time = 0; time < 2; time += 1) await files.remove(id);
  expect(await files.size(id)).toBeUndefined();
});

test("a part for another place is refused, and more than was announced is not kept", async () => {
  await send(0, "0123");
  for (const offset of [0, 3, 5]) await expect(send(offset, "x")).rejects.toMatchObject({ code: "upload_offset" });
  await expect(send(4, "4567890123")).rejects.toMatchObject({ code: "body_too_large" });
  // All that was announced has arrived by then.
  expect(await files.size(id)).toBe(10);
  expect(await send(10, "")).toBe(10);
  expect(await readFile(files.path(id), "utf8")).toBe("0123456789");
});

test("what came before the sender left is kept", async () => {
  const body = new PassThrough();
  const sending = send(0, body);
  body.write("012");
  await eventually(async () => expect(await files.size(id)).toBe(3));
  body.destroy(new Error("the client left"));
  await expect(sending).rejects.toThrow("the client left");
  expect(await send(3, "3456789")).toBe(10);
});

test("who sends again takes the place of a connection that is dead", async () => {
  const dead = new PassThrough();
  const before = send(0, dead);
  dead.write("012");
  await eventually(async () => expect(await files.size(id)).toBe(3));
  const [ended, now] = await Promise.allSettled([before, send(3, "3456789")]);
  expect(ended).toMatchObject({ status: "rejected" });
  expect(now).toEqual({ status: "fulfilled", value: 10 });
  expect(await readFile(files.path(id), "utf8")).toBe("0123456789");
});
