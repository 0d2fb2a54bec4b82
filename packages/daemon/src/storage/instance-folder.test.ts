import { expect, test } from "vitest";
import { freeUid, userRange } from "./instance-folder.ts";

test("an installation's range is its own, the same each time, and among the uids that no system gives out", () => {
  const [one, other] = [userRange("b-1"), userRange("b-2")];
  expect(userRange("b-1")).toEqual(one);
  expect(other.first).not.toBe(one.first);
  for (const { first, last } of [one, other]) {
    expect(first).toBeGreaterThanOrEqual(0x70000000);
    expect(last).toBeLessThanOrEqual(0x7fffffff);
    expect(last - first).toBe(16_383);
  }
});

test.each([
  [[], 10],
  [[10, 12], 11],
  [[10, 11, 12, 99], 13],
])("of %j held the next free uid is %d", (held, expected) => {
  expect(freeUid({ first: 10, last: 13 }, new Set(held))).toBe(expected);
});

test("a full range is an error", () => {
  expect(() => freeUid({ first: 1, last: 2 }, new Set([1, 2]))).toThrow(/All 2 uids/);
});
