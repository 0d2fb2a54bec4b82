import { expect, test } from "vitest";
import { estimate, interleave, judge, median, ratio } from "./statistics.ts";

test("the median of odd and even numbers of values", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(() => median([])).toThrow();
});

test("the interval is the one of the tables for a median's 95 % interval by order statistics", () => {
  const interval = (count: number) => {
    const { low, high } = estimate(Array.from({ length: count }, (_, index) => index + 1));
    return [low, high];
  };
  // Ranks as in tables of the sign test: n = 6 -> 1 and 6, n = 10 -> 2 and 9, n = 20 -> 6 and 15, n = 30 -> 10 and 21.
  expect(interval(6)).toEqual([1, 6]);
  expect(interval(10)).toEqual([2, 9]);
  expect(interval(20)).toEqual([6, 15]);
  expect(interval(30)).toEqual([10, 21]);
});

test("a drift that both share leaves the ratio alone", () => {
  const drifting = Array.from({ length: 12 }, (_, index): [number, number] => [2 * (index + 1), index + 1]);
  expect(ratio(drifting)).toEqual({ median: 2, low: 2, high: 2, count: 12 });
});

test("a verdict needs the whole interval on one side", () => {
  expect(judge({ median: 1, low: 0.9, high: 1.1, count: 9 }, 1.25)).toBe("kept");
  expect(judge({ median: 1.3, low: 1.2, high: 1.4, count: 9 }, 1.25)).toBe("too close to tell");
  expect(judge({ median: 1.5, low: 1.3, high: 1.6, count: 9 }, 1.25)).toBe("missed");
});

test("pairs are measured in turn, the first round only warms up", async () => {
  const order: string[] = [];
  let count = 0;
  const measure = (name: string) => async () => {
    order.push(name);
    return ++count;
  };
  expect(await interleave(2, measure("ours"), measure("theirs"))).toHaveLength(2);
  expect(order).toEqual(["theirs", "ours", "ours", "theirs", "theirs", "ours"]);
});
