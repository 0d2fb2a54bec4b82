import { expect, test } from "vitest";
import { parseLine } from "./log.ts";

test.each([
  ["2026-11-20 23:53:43.287914241  hello there", "2026-11-20T23:53:43.287914241Z", "hello there"],
  ["2026-11-20 23:53:43.287914241    indented\r", "2026-11-20T23:53:43.287914241Z", "  indented"],
  ["2026-11-20 23:53:43.287914241  ", "2026-11-20T23:53:43.287914241Z", ""],
  ["never stamped", "", "never stamped"],
])("%j is read as its time and text", (line, at, text) => {
  expect(parseLine(line)).toEqual({ at, text });
});
