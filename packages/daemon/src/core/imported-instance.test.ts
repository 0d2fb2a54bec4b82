import { ImportInstance } from "@berth/api";
import { expect, test } from "vitest";
import { checkPlatform, importedInstance } from "./imported-instance.ts";
import { specOf } from "./new-instance.ts";

const port = { hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" } as const;
const spec = {
  ...specOf({
    image: "nginx",
    labels: {},
    cpus: 2,
    memoryMib: 256,
    ports: [port],
    env: { A: "b" },
    tty: false,
    stopTimeoutMs: 5,
    start: false,
    warm: "auto",
    autosuspend: { idleSeconds: 60 },
    snapshots: null,
    restart: "no",
  }),
  restartGeneration: 7,
};
const archived = { name: "web", labels: { team: "a", tier: "front" }, spec };

test("an import makes what the archive has, in a new life: awake until it is told to sleep", () => {
  const made = importedInstance(archived, ImportInstance.parse({}));
  expect(made).toEqual({ ...archived, spec: { ...spec, autosuspend: null, power: "running", restartGeneration: 0 } });
});

test("what is asked for goes before what the archive has", () => {
  const ports = [{ guestPort: 81 }];
  const wish = ImportInstance.parse({
    name: "two",
    labels: { team: "b" },
    cpus: 1,
    memoryMib: 96,
    ports,
    start: false,
  });
  expect(importedInstance(archived, wish)).toMatchObject({
    name: "two",
    labels: { team: "b", tier: "front" },
    spec: { cpus: 1, memoryMib: 96, ports: [{ guestPort: 81, hostPort: 0 }], env: { A: "b" }, power: "stopped" },
  });
});

test("a machine of another kind is refused", () => {
  expect(() => checkPlatform({ os: "linux", architecture: "amd64" }, "amd64")).not.toThrow();
  expect(() => checkPlatform({ os: "linux", architecture: "arm64" }, "amd64")).toThrow(
    "linux/arm64, this node is linux/amd64",
  );
  expect(() => checkPlatform({ os: "windows", architecture: "amd64" }, "amd64")).toThrow("windows/amd64");
});
