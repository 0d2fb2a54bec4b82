import { expect, test } from "vitest";
import { openConnections, parseUsernet, portChanges, publishedPorts } from "./usernet.ts";

/** As QEMU 7.2 says it. */
const text = [
  "Hub -1 (net0):",
  "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ",
  "  TCP[ESTABLISHED]   31       127.0.0.1  8081       10.0.2.15    80     0     0",
  "  TCP[TIME_WAIT]     32       127.0.0.1  8081       10.0.2.15    80     0     0",
  "  TCP[ESTABLISHED]   33       10.0.2.15 49154   93.184.216.34    80     0     0",
  "  TCP[HOST_FORWARD]  16       127.0.0.1  8081       10.0.2.15    80     0     0",
  "  TCP[HOST_FORWARD]  17               *  9000       10.0.2.15  9000     0     0",
  "  UDP[HOST_FORWARD]  18       127.0.0.1    53       10.0.2.15    53     0     0",
  "  UDP[236 sec]       34       10.0.2.15 55555        10.0.2.3    53     0     0",
  "  ICMP[2 sec]        35       10.0.2.15     -         1.1.1.1     -     0     0",
  "",
].join("\r\n");

const tcp = (hostAddress: string, hostPort: number, guestPort = 80) => ({
  protocol: "tcp" as const,
  hostAddress,
  hostPort,
  guestPort,
});

test("published ports and open connections are told from all else", () => {
  const sockets = parseUsernet(text);
  expect(publishedPorts(sockets)).toEqual([
    tcp("127.0.0.1", 8081),
    tcp("0.0.0.0", 9000, 9000),
    { ...tcp("127.0.0.1", 53, 53), protocol: "udp" },
  ]);
  expect(openConnections(sockets)).toBe(1);
  expect(openConnections(parseUsernet(""))).toBe(0);
});

test.each(["  TCP[ESTABLISHED] somewhere", "  SCTP[OPEN] 1 a 2 b 3 0 0", "unknown command: 'info usernet'"])(
  "what cannot be understood is no silence: %s",
  (line) => {
    expect(() => parseUsernet(line)).toThrow(/cannot be understood/);
  },
);

test("a set of ports becomes another by as little as it takes", () => {
  const present = [tcp("127.0.0.1", 1), tcp("127.0.0.1", 2), tcp("127.0.0.1", 3)];
  const wanted = [
    tcp("127.0.0.1", 2),
    tcp("127.0.0.1", 3, 81),
    tcp("0.0.0.0", 1),
    { ...tcp("127.0.0.1", 2), protocol: "udp" as const },
  ];
  expect(portChanges(present, wanted)).toEqual({
    add: [wanted[2], wanted[3]],
    remove: [present[0]],
    replace: [wanted[1]],
  });
  expect(portChanges(present, present)).toEqual({ add: [], remove: [], replace: [] });
});
