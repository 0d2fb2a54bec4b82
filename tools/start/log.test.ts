import { appendFileSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../../test/support/eventually.ts";
import { scratchDirectory } from "../../test/support/scratch.ts";
import { BerthdLog } from "./log.ts";

const read = (path: string) => readFileSync(path, "utf8");

test("what earlier ones wrote is there after the next start, and last words are of the last one alone", async () => {
  const log = new BerthdLog(join(await scratchDirectory("log"), "berthd.log"));
  log.open((fd) => writeSync(fd, "first\n"));
  expect(log.lastWords()).toBe("first");
  log.open((fd) => writeSync(fd, "second\n"));
  expect(read(log.path)).toBe("first\nsecond\n");
  expect(log.lastWords()).toBe("second");
  log.open(() => undefined);
  expect(log.lastWords()).toBe("");
});

test("it is put aside when it is too large: at a start, and while it is written to", async () => {
  const path = join(await scratchDirectory("log"), "berthd.log");
  const log = new BerthdLog(path, { maxBytes: 10 });
  writeFileSync(path, "of long ago\n");
  writeFileSync(`${path}.1`, "older still");
  log.open((fd) => writeSync(fd, "new\n"));
  expect([read(`${path}.1`), read(path)]).toEqual(["of long ago\n", "new\n"]);

  const end = log.keepBounded();
  log.open((fd) => writeSync(fd, "much more\n"));
  await eventually(() => expect(read(path)).toBe(""));
  expect(read(`${path}.1`)).toBe("new\nmuch more\n");
  appendFileSync(path, "rest\n");
  expect(log.lastWords()).toBe("rest");
  end();
});
