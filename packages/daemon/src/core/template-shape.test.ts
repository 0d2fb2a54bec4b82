import type { InstanceSpec } from "@berth/api";
import { expect, test } from "vitest";
import { shapeOf, shapeText, wishedShapeOf } from "./template-shape.ts";

const spec = {
  cpus: 1,
  memoryMib: 512,
  disks: [{ name: "root", sizeMib: 1024 }],
  interfaces: [{ name: "eth0", network: "user" as const }],
};

test("names and sizes of disks are not part of a shape; all that memory depends on is", () => {
  const text = shapeText(shapeOf(spec, "sha256:a", "build"));
  const same = {
    ...spec,
    disks: [{ name: "data", sizeMib: 9 }],
    interfaces: [{ name: "lan", network: "user" as const }],
  };
  expect(shapeText(shapeOf(same, "sha256:a", "build"))).toBe(text);
  const others = [
    shapeOf({ ...spec, cpus: 2 }, "sha256:a", "build"),
    shapeOf({ ...spec, memoryMib: 513 }, "sha256:a", "build"),
    shapeOf({ ...spec, disks: [...spec.disks, ...spec.disks] }, "sha256:a", "build"),
    shapeOf({ ...spec, interfaces: [] }, "sha256:a", "build"),
    shapeOf(spec, "sha256:b", "build"),
    shapeOf(spec, "sha256:a", "built"),
  ];
  expect(new Set([text, ...others.map(shapeText)]).size).toBe(7);
});

test("with its process, what that was started with is part of the shape; the order of variables and ports is not", () => {
  const asked: InstanceSpec = {
    ...spec,
    ports: [
      { hostAddress: "127.0.0.1", hostPort: 1, guestPort: 81, protocol: "tcp" },
      { hostAddress: "127.0.0.1", hostPort: 2, guestPort: 80, protocol: "tcp" },
      { hostAddress: "127.0.0.1", hostPort: 3, guestPort: 53, protocol: "udp" },
    ],
    env: { A: "1", B: "2" },
    entrypoint: null,
    autosuspend: null,
    snapshots: null,
    command: ["x"],
    tty: false,
    stopTimeoutMs: 1,
    restart: "no",
    warm: "app",
    power: "running",
    restartGeneration: 0,
  };
  const textOf = (change: Partial<InstanceSpec>) => shapeText(wishedShapeOf({ ...asked, ...change }, "sha256:a", "b"));
  expect(wishedShapeOf(asked, "sha256:a", "b").app?.ports).toEqual([80, 81]);
  expect(textOf({ env: { B: "2", A: "1" }, ports: asked.ports.toReversed(), stopTimeoutMs: 2 })).toBe(textOf({}));
  expect(textOf({ warm: "auto" })).toBe(shapeText(shapeOf(spec, "sha256:a", "b")));
  const others: Partial<InstanceSpec>[] = [
    { env: { A: "1" } },
    { entrypoint: [] },
    { command: ["y"] },
    { tty: true },
    { ports: [] },
    { disks: [{ name: "root", sizeMib: 2048 }] },
  ];
  expect(new Set([textOf({}), ...others.map(textOf)]).size).toBe(7);
});
