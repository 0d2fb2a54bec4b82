import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createOutbound, isPublicAddress } from "./outbound.ts";

const at =
  (...addresses: string[]) =>
  async () =>
    addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));

describe("isPublicAddress", () => {
  test.each(["1.1.1.1", "93.184.216.34", "172.32.0.1", "2606:4700::1111"])("%s is", (address) => {
    expect(isPublicAddress(address)).toBe(true);
  });
  test.each([
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "fe80::1",
    "fd00::1",
    "ff02::1",
    "localhost",
  ])("%s is not", (address) => {
    expect(isPublicAddress(address)).toBe(false);
  });
});

describe("pin", () => {
  test.each(["127.0.0.1", "[::1]", "10.0.0.5", "169.254.169.254"])("refuses the address %s", async (host) => {
    await expect(createOutbound({ allowHosts: [] }).pin(host, 443)).rejects.toMatchObject({ code: "address_refused" });
  });

  test("refuses a name when any of its addresses is not public", async () => {
    const outbound = createOutbound({ allowHosts: [], lookup: at("1.1.1.1", "10.0.0.5") });
    await expect(outbound.pin("rebind.example", 443)).rejects.toMatchObject({ code: "address_refused" });
  });

  test("gives the addresses that were judged", async () => {
    const outbound = createOutbound({ allowHosts: [], lookup: at("1.1.1.1") });
    expect(await outbound.pin("fine.example", 443)).toEqual({
      addresses: [{ address: "1.1.1.1", family: 4 }],
      allowed: false,
    });
  });

  test("without the guard the same name is let through", async () => {
    const outbound = createOutbound({ allowHosts: [], lookup: at("10.0.0.5"), unguarded: true });
    expect((await outbound.pin("rebind.example", 443)).addresses).toHaveLength(1);
  });

  test.each([
    ["registry.lan", "registry.lan", 443, true],
    ["REGISTRY.lan", "registry.lan", 443, true],
    ["registry.lan:5000", "registry.lan", 5000, true],
    ["registry.lan:5000", "registry.lan", 5001, false],
    ["registry.lan", "evil-registry.lan", 443, false],
    ["http://registry.lan", "registry.lan", 80, true],
    ["10.0.0.0/24", "registry.lan", 443, true],
    ["10.0.1.0/24", "registry.lan", 443, false],
    ["10.0.0.5:443", "registry.lan", 443, true],
  ])("the list [%s] for %s:%d: %s", async (rule, host, port, allowed) => {
    const pinned = createOutbound({ allowHosts: [rule], lookup: at("10.0.0.5") }).pin(host, port);
    if (allowed) expect(await pinned).toMatchObject({ allowed: true });
    else await expect(pinned).rejects.toMatchObject({ code: "address_refused" });
  });

  test.each(["a b", "host:port", "10.0.0.0/x", "user@host", "http://h/path"])("the rule %j is refused", (rule) => {
    expect(() => createOutbound({ allowHosts: [rule] })).toThrow(/BERTH_ALLOW_HOSTS/);
  });

  test("no private IPv4 address passes, however chosen", async () => {
    const octet = fc.integer({ min: 0, max: 255 });
    const net = fc.constantFrom([10], [127], [192, 168], [169, 254], [172, 16], [100, 64], [0]);
    await fc.assert(
      fc.asyncProperty(net, octet, octet, octet, async (network, a, b, c) => {
        const host = [...network, a, b, c].slice(0, 4).join(".");
        await expect(createOutbound({ allowHosts: [] }).pin(host, 443)).rejects.toMatchObject({
          code: "address_refused",
        });
      }),
    );
  });
});

describe("allowsPlainHttp", () => {
  test.each([
    ["127.0.0.1:5000", "127.0.0.1", 5000, true],
    ["localhost", "localhost", 80, true],
    ["registry.lan", "registry.lan", 80, false],
    ["http://registry.lan", "registry.lan", 80, true],
  ])("the list [%s] for %s:%d: %s", (rule, host, port, allowed) => {
    expect(createOutbound({ allowHosts: [rule] }).allowsPlainHttp(host, port)).toBe(allowed);
  });
  test("not on loopback that nobody listed", () => {
    expect(createOutbound({ allowHosts: [] }).allowsPlainHttp("127.0.0.1", 80)).toBe(false);
  });
});
