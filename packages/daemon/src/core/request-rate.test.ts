import fc from "fast-check";
import { expect, test } from "vitest";
import { RequestRate } from "./request-rate.ts";

test("so many at once, then as many as the rate gives back; each sender for itself", () => {
  const rate = new RequestRate(10, 3);
  expect([0, 0, 0].map((now) => rate.take("a", now).remaining)).toEqual([2, 1, 0]);
  expect(rate.take("a", 0)).toEqual({ allowed: false, remaining: 0, retryMs: 100, resetMs: 300 });
  expect(rate.take("b", 0).allowed).toBe(true);
  expect(rate.take("a", 99).allowed).toBe(false);
  expect(rate.take("a", 100)).toEqual({ allowed: true, remaining: 0, retryMs: 0, resetMs: 300 });
  expect(rate.take("a", 1000)).toMatchObject({ allowed: true, remaining: 2 });
});

test("the last of a burst is let in at any moment, however its fractions add up", () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1e10, noNaN: true }), fc.integer({ min: 1, max: 1000 }), (now, perSecond) => {
      const rate = new RequestRate(perSecond / 10, 3);
      expect([1, 2, 3, 4].map(() => rate.take("a", now).allowed)).toEqual([true, true, true, false]);
    }),
  );
});

test("in any time nobody gets more than the burst and what the rate gives, and who waits as told is let in", () => {
  const steps = fc.array(fc.nat({ max: 400 }), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(steps, (waits) => {
      const rate = new RequestRate(8, 5);
      const allowed: number[] = [];
      let now = 0;
      for (const wait of waits) {
        now += wait;
        const { allowed: isAllowed, retryMs } = rate.take("a", now);
        if (isAllowed) allowed.push(now);
        else expect(rate.take("a", Math.ceil(now + retryMs))).toMatchObject({ allowed: true });
        if (!isAllowed) allowed.push(Math.ceil(now + retryMs));
        now = Math.max(now, allowed.at(-1) ?? 0);
      }
      for (const [first, from] of allowed.entries())
        for (const [last, to] of allowed.entries())
          if (last >= first) expect(last - first + 1).toBeLessThanOrEqual(5 + (to - from) / 125);
    }),
  );
});

test("senders that are gone are forgotten, and too many are too", () => {
  const rate = new RequestRate(1, 1);
  for (let sender = 0; sender < 10_000; sender += 1) rate.take(String(sender), 0);
  expect(rate.take("0", 1)).toMatchObject({ allowed: false });
  expect(rate.take("another", 2)).toMatchObject({ allowed: true });
  expect(rate.take("0", 3)).toMatchObject({ allowed: true });
});
