import fc from "fast-check";
import { expect, test } from "vitest";
import { backoffMs, defaultRetry } from "./backoff.ts";

test("a pause is between half and all of its length, doubles, and stays below the longest", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1000 }), fc.double({ min: 0, max: 1, noNaN: true }), (failures, random) => {
      const full = Math.min(defaultRetry.capMs, defaultRetry.baseMs * 2 ** (failures - 1));
      const pause = backoffMs(defaultRetry, failures, random);
      expect(pause).toBeGreaterThanOrEqual(Math.floor(full / 2));
      expect(pause).toBeLessThanOrEqual(full);
      expect(Number.isInteger(pause)).toBe(true);
    }),
  );
});
