import type { PublishedPort } from "@berth/api";
import { describe, expect, it } from "vitest";
import { keepsPorts, keptPorts } from "./published-ports.ts";

const port = (hostPort: number, guestPort: number, more: Partial<PublishedPort> = {}): PublishedPort => ({
  hostAddress: "127.0.0.1",
  hostPort,
  guestPort,
  protocol: "tcp",
  ...more,
});

describe("published ports", () => {
  it.each<[string, PublishedPort[], PublishedPort[], boolean]>([
    ["none for none", [], [], true],
    ["any port where none was named", [port(0, 80)], [port(5000, 80)], true],
    ["the one that was named", [port(8080, 80)], [port(8080, 80)], true],
    ["another than was named", [port(8080, 80)], [port(8081, 80)], false],
    ["none yet", [port(0, 80)], [], false],
    ["more than wished for", [], [port(5000, 80)], false],
    ["another guest port", [port(0, 80)], [port(5000, 81)], false],
    ["another protocol", [port(0, 80)], [port(5000, 80, { protocol: "udp" })], false],
    ["another address", [port(0, 80)], [port(5000, 80, { hostAddress: "0.0.0.0" })], false],
    ["a port that was never chosen", [port(0, 80)], [port(0, 80)], false],
  ])("%s", (_, wished, reserved, expected) => {
    expect(keepsPorts(wished, reserved)).toBe(expected);
  });

  it("keep their host ports when others come or go", () => {
    const had = [port(5000, 80), port(5001, 81)];
    expect(keptPorts([port(0, 82), port(0, 81)], had)).toEqual([port(0, 82), port(5001, 81)]);
    expect(keptPorts([port(8080, 80), port(0, 81)], had)).toEqual([port(8080, 80), port(5001, 81)]);
  });

  it("of one guest port published twice are kept each once, and not one that is now named", () => {
    const had = [port(5000, 80), port(5001, 80)];
    expect(keptPorts([port(0, 80), port(0, 80), port(0, 80)], had)).toEqual([...had, port(0, 80)]);
    expect(keptPorts([port(0, 80), port(5000, 80)], had)).toEqual([port(5001, 80), port(5000, 80)]);
  });
});
