import { expect, test } from "vitest";
import { addressGroup, lockOutMs } from "./lock-out.ts";

test("the first tries are free, then the wait doubles up to an hour", () => {
  expect([0, 4, 5, 6, 7, 10, 11, 12, 1000].map(lockOutMs)).toEqual([
    0, 0, 60_000, 120_000, 240_000, 1_920_000, 3_600_000, 3_600_000, 3_600_000,
  ]);
});

test("an IPv6 network of 64 bits is one address; an IPv4 address stays one however it is written", () => {
  expect(addressGroup("10.0.0.7")).toBe("10.0.0.7");
  expect(addressGroup("::ffff:10.0.0.7")).toBe("10.0.0.7");
  expect(addressGroup("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2::/64");
  expect(addressGroup("2001:0db8:0001:2::9%eth0")).toBe("2001:db8:1:2::/64");
  expect(addressGroup("2001:db8:1:3::9")).not.toBe(addressGroup("2001:db8:1:2::9"));
  expect(addressGroup("::1")).toBe("0:0:0:0::/64");
});
