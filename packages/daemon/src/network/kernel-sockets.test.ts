import { expect, test } from "vitest";
import { openConnections, parseSockets, unaccepted } from "./kernel-sockets.ts";

const heading =
  "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     ";
const [port, other] = ["1F90", "1F91"];

/** A line of /proc/net/tcp: a socket at 127.0.0.1. */
function line(localPort: string, state: string, { waiting = 0, inode = 7 } = {}): string {
  const queue = waiting.toString(16).padStart(8, "0");
  return `   1: 0100007F:${localPort} 0100007F:C350 ${state} 00000000:${queue} 00:00000000 00000000     0        0 ${inode} 1 0000000000000000 100 0 0 10 0`;
}

const table = (...lines: string[]) => parseSockets([heading, ...lines, ""].join("\n"));
const at = [{ address: "127.0.0.1", port: 8080 }];

test("the kernel's table is read", () => {
  expect(table(line(port, "0A", { waiting: 2 }))).toEqual([
    { address: "127.0.0.1", port: 8080, state: 10, waiting: 2, inode: 7 },
  ]);
});

test.each([
  ["in use", line(port, "01"), 1],
  ["not accepted yet", line(port, "01", { inode: 0 }), 1],
  ["on its way", line(port, "03", { inode: 0 }), 1],
  ["that the client has half closed", line(port, "08"), 1],
  ["that the program has half closed", line(port, "05"), 1],
  ["left to the kernel to end", line(port, "05", { inode: 0 }), 0],
  ["that was", line(port, "06", { inode: 0 }), 0],
  ["at another port", line(other, "01"), 0],
  ["that could come", line(port, "0A", { waiting: 1 }), 0],
])("a connection %s", (_, text, expected) => {
  expect(openConnections(table(text), at)).toBe(expected);
  expect(openConnections(table(text), [{ address: "0.0.0.0", port: 8080 }])).toBe(expected);
  expect(openConnections(table(text), [{ address: "127.0.0.2", port: 8080 }])).toBe(0);
});

test("those who wait to be accepted are counted where they wait", () => {
  expect(unaccepted(table(line(port, "0A", { waiting: 2 }), line(port, "03"), line(port, "01")), at)).toBe(3);
});
