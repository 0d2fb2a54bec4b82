import { CreateInstance, LaunchSnapshot, Name } from "@berth/api";
import { expect, it } from "vitest";
import { specOf } from "./new-instance.ts";
import { beyondMemory, restoreMismatch, snapshotName, specFromSnapshot } from "./snapshot-spec.ts";

const then = {
  ...specOf(
    CreateInstance.parse({
      image: "nginx",
      memoryMib: 256,
      diskMib: 2048,
      env: { A: "1", B: "2" },
      command: ["serve"],
      ports: [{ hostPort: 8080, guestPort: 80 }],
    }),
  ),
  restartGeneration: 3,
};

it("is what it was then, with what is asked for instead, and on free host ports", () => {
  expect(specFromSnapshot(then, LaunchSnapshot.parse({}))).toEqual({
    ...then,
    ports: [{ hostAddress: "127.0.0.1", hostPort: 0, guestPort: 80, protocol: "tcp" }],
    warm: "never",
    restartGeneration: 0,
  });
  const asked = LaunchSnapshot.parse({
    memoryMib: 512,
    diskMib: 4096,
    env: { B: "3" },
    command: ["other"],
    ports: [],
    start: false,
  });
  expect(specFromSnapshot(then, asked)).toMatchObject({
    memoryMib: 512,
    disks: [{ name: "root", sizeMib: 4096 }],
    env: { A: "1", B: "3" },
    command: ["other"],
    ports: [],
    power: "stopped",
  });
});

it("refuses a disk smaller than it was", () => {
  expect(() => specFromSnapshot(then, LaunchSnapshot.parse({ diskMib: 1024 }))).toThrow("2048 MiB");
});

it("says why an instance cannot go back to other disks than it has", () => {
  const smaller = { ...then, memoryMib: 64 };
  expect(restoreMismatch(then, smaller, false)).toBeUndefined();
  expect(restoreMismatch(then, then, true)).toBeUndefined();
  expect(restoreMismatch(then, smaller, true)).toBe(
    "It has 1 CPUs and 256 MiB of memory, the snapshot's memory is of 1 CPUs and 64 MiB of memory: only its disks can be restored.",
  );
  const more = { ...then, disks: [...then.disks, { name: "data", sizeMib: 64 }] };
  expect(restoreMismatch(more, then, false)).toBe("Its disks are root, data; those in the snapshot are root.");
});

it("lets a disk for volumes be that it has got since, unless it is to go on from memory", () => {
  const volumes = { ...then, disks: [...then.disks, { name: "volumes", sizeMib: 64 }] };
  expect(restoreMismatch(volumes, then, false)).toBeUndefined();
  expect(restoreMismatch(volumes, then, true)).toBe("Its disks are root, volumes; those in the snapshot are root.");
  expect(restoreMismatch(then, volumes, false)).toBe("Its disks are root; those in the snapshot are root, volumes.");
});

it.each([
  [{}, undefined],
  [{ name: "x", ports: [], diskMib: 4096 }, undefined],
  [{ cpus: 1 }, "CPUs"],
  [{ memoryMib: 256 }, "memory"],
  [{ env: { A: "1" } }, "environment"],
  [{ command: [] }, "command"],
])("what goes on from memory cannot have otherwise: %j", (asked, expected) => {
  expect(beyondMemory(LaunchSnapshot.parse(asked))).toBe(expected);
});

it("makes up names that are names", () => {
  const now = new Date("2026-11-20T14:05:09Z");
  expect(snapshotName("web", now)).toBe("web-20261120-140509");
  expect(snapshotName("web", now, { what: "before-restore", number: 2 })).toBe("web-before-restore-20261120-140509-2");
  expect(Name.parse(snapshotName("a".repeat(63), now, { what: "before-restore" }))).toHaveLength(63);
});
