import { expect, test } from "vitest";
import { count, countKey, diversionTable, divert, giveBack, readCounts, stopCounting } from "./diversion-rules.ts";

const here = { address: "192.0.2.1", port: 8080, innerPort: 40_001 };
const anywhere = { address: "0.0.0.0", port: 8081, innerPort: 40_002 };

test("the table is made whole again without losing what its maps hold", () => {
  const text = diversionTable({ table: "berth_x_ports", folder: "/data" });
  expect(text).toMatch(/^table inet berth_x_ports \{\n {2}comment "\/data"\n/);
  // `flush table` empties chains, not maps and sets (nft(8)).
  expect(text.indexOf("flush table inet berth_x_ports")).toBeGreaterThan(text.indexOf("map anywhere"));
  expect(text).not.toContain("delete");
});

test("a port is diverted on its own address alone, and for a while", () => {
  expect(divert("t", [here]).split("\n")).toEqual([
    "add element inet t here { 192.0.2.1 . 8080 timeout 30s : 192.0.2.1 . 40001 }",
    "delete element inet t here { 192.0.2.1 . 8080 }",
    "add element inet t here { 192.0.2.1 . 8080 timeout 30s : 192.0.2.1 . 40001 }",
    "",
  ]);
  expect(divert("t", [anywhere])).toContain("anywhere { 8081 timeout 30s : 40002 }");
});

test("giving back needs nothing to be there", () => {
  expect(giveBack("t", [here, anywhere])).toMatch(
    /^add .* here .*\ndelete .* here .*\nadd .* anywhere .*\ndelete .* anywhere \{ 8081 \}\n$/,
  );
});

test("what is counted is read by protocol, address and port", () => {
  const tcp = { protocol: "tcp", address: "192.0.2.1", port: 80 } as const;
  const udp = { protocol: "udp", address: "0.0.0.0", port: 53 } as const;
  expect(count("t", [tcp, udp])).toBe(
    "add element inet t counted_here { tcp . 192.0.2.1 . 80 }\nadd element inet t counted_anywhere { udp . 53 }\n",
  );
  expect(stopCounting("t", [udp])).toMatch(/^add .*\ndelete element inet t counted_anywhere \{ udp \. 53 \}\n$/);
  const counter = (packets: number) => ({ packets, bytes: 60 * packets });
  const counts = readCounts(
    JSON.stringify({
      nftables: [
        { metainfo: { version: "1.0.6" } },
        { map: { name: "here", elem: [] } },
        {
          set: {
            name: "counted_here",
            elem: [{ elem: { val: { concat: ["tcp", "192.0.2.1", 80] }, counter: counter(3) } }],
          },
        },
        { set: { name: "counted_anywhere", elem: [{ elem: { val: { concat: ["udp", 53] }, counter: counter(5) } }] } },
      ],
    }),
  );
  expect([counts.get(countKey(tcp)), counts.get(countKey(udp))]).toEqual([3, 5]);
});
