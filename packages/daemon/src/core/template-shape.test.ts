import { expect, test } from "vitest";
import { shapeOf, shapeText } from "./template-shape.ts";

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
