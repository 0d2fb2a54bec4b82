import { expect, test } from "vitest";
import { rangeOf } from "./range.ts";

const file = { sizeBytes: 1000, tag: "arc-1" };

test.each<[string | undefined, string | undefined, ReturnType<typeof rangeOf>]>([
  [undefined, undefined, undefined],
  ["bytes=0-", undefined, { start: 0, end: 1000 }],
  ["bytes=10-", undefined, { start: 10, end: 1000 }],
  ["bytes=10-19", undefined, { start: 10, end: 20 }],
  ["bytes=999-5000", undefined, { start: 999, end: 1000 }],
  ["bytes=-100", undefined, { start: 900, end: 1000 }],
  ["bytes=-5000", undefined, { start: 0, end: 1000 }],
  ["bytes=-0", undefined, null],
  ["bytes=1000-", undefined, null],
  ["bytes=5000-6000", undefined, null],
  ["bytes=20-10", undefined, undefined],
  ["bytes=0-1,5-6", undefined, undefined],
  ["bytes=-", undefined, undefined],
  ["lines=0-1", undefined, undefined],
  ["bytes=99999999999999999-", undefined, undefined],
  ["bytes=10-", '"arc-1"', { start: 10, end: 1000 }],
  ["bytes=10-", '"arc-2"', undefined],
  ["bytes=10-", 'W/"arc-1"', undefined],
])("Range %j with If-Range %j asks for %j", (range, ifRange, expected) => {
  expect(rangeOf(range, ifRange, file)).toEqual(expected);
});

test("nothing is a part of an empty file", () => {
  for (const range of ["bytes=0-", "bytes=-1"]) expect(rangeOf(range, undefined, { ...file, sizeBytes: 0 })).toBeNull();
});
