import { CreateInstance } from "@berth/api";
import { expect, it } from "vitest";
import { checkCapacity, checkPorts, specOf } from "./new-instance.ts";

it("fills what a request leaves out", () => {
  const spec = specOf(CreateInstance.parse({ image: "nginx" }));
  expect(spec).toMatchObject({
    cpus: 1,
    memoryMib: 512,
    disks: [{ name: "root", sizeMib: 1024 }],
    power: "running",
    entrypoint: null,
  });
});

it("refuses more CPUs or memory than the node has", () => {
  const node = { cpus: 2, memoryMib: 2048 };
  expect(() => checkCapacity({ cpus: 2, memoryMib: 2048 }, node)).not.toThrow();
  expect(() => checkCapacity({ cpus: 3, memoryMib: 64 }, node)).toThrow("the node has 2");
  expect(() => checkCapacity({ cpus: 1, memoryMib: 2049 }, node)).toThrow("the node has 2048 MiB");
});

it("refuses one host port published twice, but not two free ones or two protocols", () => {
  const port = { hostAddress: "127.0.0.1", hostPort: 80, guestPort: 80, protocol: "tcp" } as const;
  expect(() => checkPorts([port, { ...port, guestPort: 81 }])).toThrow("127.0.0.1:80/tcp twice");
  expect(() => checkPorts([port, { ...port, protocol: "udp" }])).not.toThrow();
  expect(() =>
    checkPorts([
      { ...port, hostPort: 0 },
      { ...port, hostPort: 0 },
    ]),
  ).not.toThrow();
});
