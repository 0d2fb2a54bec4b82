import { describe, expect, test } from "vitest";
import { hostRules, namespaceRules, parseResolvers, withoutRules } from "./rules.ts";

describe("resolvers", () => {
  test.each([
    ["nameserver 10.0.0.53\n", ["10.0.0.53"]],
    [
      "# nameserver 1.1.1.1\nsearch a b\n  nameserver\t127.0.0.53 # stub\nnameserver fd00::1\n",
      ["127.0.0.53", "fd00::1"],
    ],
    ["nameserver fe80::1%eth0\nnameserver 10.0.0.1\nnameserver 10.0.0.1", ["fe80::1", "10.0.0.1"]],
    ["nameserver 1.1.1.1;drop\nnameserver }\nnameserver", ["1.1.1.1"]],
    ["", []],
  ])("are read from %j", (text, expected) => {
    expect(parseResolvers(text)).toEqual(expected);
  });
});

describe("rules on the host", () => {
  const options = { table: "berth_x", uids: { first: 100, last: 200 }, resolvers: ["127.0.0.53", "fd00::1"] };
  const rules = hostRules({ ...options, folder: "/data/network" });

  test("say whose they are, whatever the folder is called", () => {
    expect(rules).toContain('  comment "/data/network"\n');
    const odd = hostRules({ ...options, folder: `/a"; delete\n\\${"ü".repeat(200)}` });
    expect(odd).toMatch(/^ {2}comment "\/a\?; delete\?\?\?{100,}"$/m);
    expect(/comment "(.*)"/.exec(odd)?.[1]).toHaveLength(127);
  });

  test("concern the guests' users alone", () => {
    expect(rules).toMatch(/chain output \{[^}]*hook output[^}]*meta skuid 100-200 goto guests\n {2}\}/);
  });

  test("let answers and DNS through before they refuse", () => {
    const order = [
      "ct state established,related accept",
      "ip daddr 127.0.0.53 meta l4proto",
      "ip6 daddr fd00::1 meta l4proto",
      "fib daddr type { local",
    ];
    expect(order.map((text) => rules.indexOf(text))).toEqual(
      order.map((text) => rules.indexOf(text)).sort((a, b) => a - b),
    );
    expect(rules.match(/th dport 53 accept/g)).toHaveLength(2);
    expect(order.every((text) => rules.includes(text))).toBe(true);
  });

  test.each(["127.0.0.0/8", "169.254.0.0/16", "fe80::/10", "::1", "0.0.0.0/8"])("refuse %s", (network) => {
    expect(rules).toMatch(new RegExp(`daddr \\{[^}]*${network.replaceAll(".", "\\.")}[^}]*\\} goto refuse`));
  });

  test("replace their former version, and are taken away, by their table's name", () => {
    expect(rules.startsWith("table inet berth_x\ndelete table inet berth_x\ntable inet berth_x {\n")).toBe(true);
    expect(withoutRules("berth_x")).toBe("table inet berth_x\ndelete table inet berth_x\n");
  });
});

test("rules in a namespace name the host's IPv4 addresses and let no IPv6 out", () => {
  const rules = namespaceRules(["127.0.0.1", "192.0.2.2", "::1", "fd00::2", "172.17.0.1"]);
  expect(rules).toContain("240.0.0.0/4, 192.0.2.2, 172.17.0.1 } goto refuse");
  expect(rules).toContain("meta nfproto ipv6 goto refuse");
});
