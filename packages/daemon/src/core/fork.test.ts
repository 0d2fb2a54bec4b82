import { CreateInstance, type PublishedPort } from "@berth/api";
import { expect, it } from "vitest";
import { checkForkMemory, checkSharedPorts, childName, specOfChild } from "./fork.ts";
import { specOf } from "./new-instance.ts";

const port = (hostPort: number): PublishedPort => ({
  hostAddress: "127.0.0.1",
  hostPort,
  guestPort: 80,
  protocol: "tcp",
});
const parent = {
  ...specOf(CreateInstance.parse({ image: "nginx", memoryMib: 512, env: { A: "new" }, ports: [port(8080)] })),
  restartGeneration: 4,
};
const run = {
  name: "web",
  cpus: 1,
  memoryMib: 256,
  ports: [port(8080)],
  env: { A: "old" },
  entrypoint: null,
  command: ["serve"],
  tty: false,
};

it("a child's machine is as its parent's is now, whatever is wished for since, on free host ports", () => {
  expect(specOfChild(parent, run, undefined)).toEqual({
    ...parent,
    memoryMib: 256,
    env: { A: "old" },
    command: ["serve"],
    ports: [port(0)],
    warm: "never",
    restartGeneration: 0,
  });
  expect(specOfChild(parent, run, [port(8081)]).ports).toEqual([port(8081)]);
});

it("only an only child can have a certain host port", () => {
  checkSharedPorts({ count: 1, ports: [port(8080)] });
  checkSharedPorts({ count: 2, ports: [port(0)] });
  checkSharedPorts({ count: 2, ports: undefined });
  expect(() => checkSharedPorts({ count: 2, ports: [port(0), port(8080)] })).toThrow("body.ports.1.hostPort");
});

it("names are numbered, and cut to what a name may be", () => {
  expect(childName("web", 1)).toBe("web-1");
  expect(childName("w".repeat(63), 100)).toBe(`${"w".repeat(59)}-100`);
  expect(childName(`${"w".repeat(58)}-----`, 100)).toBe(`${"w".repeat(58)}-100`);
});

it("the parent's memory is needed once, and some for each child", () => {
  checkForkMemory({ count: 4, memoryMib: 256 }, 512);
  expect(() => checkForkMemory({ count: 4, memoryMib: 256 }, 511)).toThrow(
    "511 MiB of memory are free; so many children need 512 MiB",
  );
});
