import { describe, expect, test } from "vitest";
import type { PortForward } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import { userNetdev } from "./netdev.ts";
import { adaptPorts, choosePorts, clash } from "./ports.ts";

function forward(hostPort: number, more: Partial<PortForward> = {}): PortForward {
  return { hostAddress: "127.0.0.1", hostPort, guestPort: 80, protocol: "tcp", ...more };
}

/** A host whose free ports come in this order. */
function hostGiving(...ports: (number | undefined)[]): Host {
  return { tryPort: async () => ports.shift() } as unknown as Host;
}

describe("host ports", () => {
  test("asked for are kept, free ones are found past those that others hold", async () => {
    const host = hostGiving(undefined, 5000, 8080, 5001, 5002);
    const chosen = await choosePorts(host, [forward(0), forward(8080), forward(0)], [forward(5000)]);
    expect(chosen.map(({ hostPort }) => hostPort)).toEqual([5001, 8080, 5002]);
  });

  test("that another instance holds are refused by name", async () => {
    const taken = choosePorts(hostGiving(), [forward(8080)], [forward(8080, { hostAddress: "0.0.0.0" })]);
    await expect(taken).rejects.toMatchObject({
      code: "port_taken",
      message: expect.stringContaining("Port 8080 on 127.0.0.1"),
    });
    await expect(choosePorts(hostGiving(), [forward(1), forward(1)], [])).rejects.toMatchObject({ code: "port_taken" });
  });

  test("on IPv6 are refused at once", async () => {
    const ipv6 = choosePorts(hostGiving(), [forward(8080, { hostAddress: "::1" })], []);
    await expect(ipv6).rejects.toMatchObject({ code: "unsupported_by_driver" });
  });

  test("of another node become free ones where they are taken, and loopback's where the address is not this node's", async () => {
    const notHere = Object.assign(new Error("not this machine's"), { code: "EADDRNOTAVAIL" });
    const tryPort = async (_protocol: string, address: string, port: number) => {
      if (address === "192.0.2.1") throw notHere;
      return port === 22 ? undefined : port || 40_000;
    };
    const host = { tryPort } as unknown as Host;
    const wanted = [
      forward(8080),
      forward(8081),
      forward(22),
      forward(0),
      forward(8082, { hostAddress: "192.0.2.1" }),
      forward(8083, { hostAddress: "::1" }),
      forward(8080, { guestPort: 81 }),
    ];
    const { ports, words } = await adaptPorts(host, wanted, [forward(8081)]);
    expect(ports.map(({ hostAddress, hostPort }) => `${hostAddress}:${hostPort}`)).toEqual([
      "127.0.0.1:8080",
      "127.0.0.1:0",
      "127.0.0.1:0",
      "127.0.0.1:0",
      "127.0.0.1:8082",
      "127.0.0.1:8083",
      "127.0.0.1:0",
    ]);
    expect(words).toEqual([
      "port 8081 of 127.0.0.1 is taken here: a free one is published instead",
      "port 22 of 127.0.0.1 is taken here: a free one is published instead",
      "192.0.2.1 is not an address to publish on here: 127.0.0.1 is used instead",
      "::1 is not an address to publish on here: 127.0.0.1 is used instead",
      "port 8080 of 127.0.0.1 is taken here: a free one is published instead",
    ]);
  });

  test.each([
    [forward(1), forward(1), true],
    [forward(1), forward(2), false],
    [forward(1), forward(1, { protocol: "udp" }), false],
    [forward(1), forward(1, { hostAddress: "127.0.0.2" }), false],
    [forward(1), forward(1, { hostAddress: "0.0.0.0" }), true],
  ])("%j and %j clash: %s", (one, other, expected) => {
    expect(clash(one, other)).toBe(expected);
  });
});

test("QEMU forwards each port to the guest, from where it is bound", () => {
  const forwards = [forward(8080), forward(53, { protocol: "udp", guestPort: 5353 })];
  expect(userNetdev(forwards, [])).toBe(
    "user,ipv6=off,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,dhcpstart=10.0.2.15," +
      "hostfwd=tcp:127.0.0.1:8080-10.0.2.15:80,hostfwd=udp:127.0.0.1:53-10.0.2.15:5353",
  );
  expect(userNetdev([forward(8080)], [{ address: "0.0.0.0", port: 10_000 }])).toContain(
    "hostfwd=tcp:0.0.0.0:10000-10.0.2.15:80",
  );
});
