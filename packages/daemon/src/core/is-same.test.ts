import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { expect, it } from "vitest";
import { isSame } from "./is-same.ts";

it("is what equality of plain values is", () => {
  // What JSON cannot write, such as a negative zero, is no plain value.
  const value = fc.jsonValue({ maxDepth: 2 }).map((made): unknown => JSON.parse(JSON.stringify(made)));
  fc.assert(fc.property(value, value, (one, other) => isSame(one, other) === isDeepStrictEqual(one, other)));
  fc.assert(fc.property(value, (one) => isSame(one, JSON.parse(JSON.stringify(one)))));
  expect(isSame({ a: 1, b: [{}] }, { b: [{}], a: 1 })).toBe(true);
  expect(isSame({ a: undefined }, { b: undefined })).toBe(false);
  expect(isSame([], {})).toBe(false);
});
