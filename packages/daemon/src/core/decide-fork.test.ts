import { describe, expect, it } from "vitest";
import { failureOfChild, failureOfFork, type SeenChild } from "./decide-fork.ts";

const well: SeenChild = {
  name: "web-1",
  publishes: true,
  power: "running",
  powerReason: "",
  startedAt: "2026-11-20T23:00:00.000Z",
  exit: null,
  failure: null,
  ready: true,
  notReadyReason: "",
  heard: true,
  memoryBytes: null,
  guestVisible: true,
};

describe("a child", () => {
  it.each<[string, Partial<SeenChild>, string | undefined, string]>([
    ["that is ready", {}, undefined, ""],
    ["that nobody can see into", { ready: false, guestVisible: false }, undefined, ""],
    ["that ended well, with nothing published", { exit: { code: 0 }, publishes: false }, undefined, ""],
    ["that ended well, with somebody waiting on its port", { exit: { code: 0 } }, "exited_early", "exit code 0"],
    ["whose process failed", { power: "stopped", exit: { code: 3 } }, "exited_early", "exit code 3"],
    ["whose guest could not be who it should be", { failure: "no address" }, "start_failed", "no address"],
    ["that went off", { power: "stopped", powerReason: "qemu ended" }, "exited_early", "qemu ended"],
    ["whose port nobody listens on", { ready: false, notReadyReason: "port 80" }, "not_ready_in_time", "port 80"],
    ["that said nothing", { ready: false }, "not_ready_in_time", "said nothing"],
  ])("%s", (_, seen, code, words) => {
    const failure = failureOfChild({ ...well, ...seen });
    expect(failure?.code).toBe(code);
    expect(failure?.message ?? "").toContain(words);
  });
});

it("a fork is well when all children are, and tells of the first that is not and how many more", () => {
  const bad = { ...well, ready: false };
  expect(failureOfFork([well, well])).toBeUndefined();
  expect(failureOfFork([well, { ...bad, name: "web-2" }])?.message).toMatch(/^web-2: Still not ready: [^.]*[.]$/);
  expect(failureOfFork([bad, bad])?.message).toMatch(/So does one more[.]$/);
  expect(failureOfFork([bad, bad, bad])?.message).toMatch(/So do 2 more[.]$/);
});
