import { expect, it } from "vitest";
import { macAddress } from "./mac-address.ts";

it("gives each interface its own address, the same each time", () => {
  const first = macAddress("i-0123456789abcdef0", 0);
  expect(first).toMatch(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/);
  expect(macAddress("i-0123456789abcdef0", 0)).toBe(first);
  expect(macAddress("i-0123456789abcdef0", 1)).not.toBe(first);
  expect(macAddress("i-0123456789abcdef1", 0)).not.toBe(first);
});

it("is unicast and locally administered", () => {
  for (let i = 0; i < 50; i++) expect(Number.parseInt(macAddress(`i-${i}`, 0).slice(0, 2), 16) & 3).toBe(2);
});
