import { describe, expect, it } from "vitest";
import { decideRestart, type EndedRun, noRestarts, returnsWithNode } from "./restart-policy.ts";

const now = 1_000_000;
const crashed: EndedRun = {
  policy: "always",
  wished: "running",
  restarts: noRestarts,
  exitCode: 1,
  startedAt: now - 500,
  nodeUpSince: now - 100_000,
};
const counted = (count: number, delayMs = 1000) => ({ count, delayMs, nextAt: null });

function decide(change: Partial<EndedRun>): string {
  const decision = decideRestart({ ...crashed, ...change }, now);
  return "leave" in decision ? "leave" : `in ${decision.startAt - now} after ${decision.delayMs}`;
}

describe("an instance that is off", () => {
  it.each<[string, Partial<EndedRun>, string]>([
    ["without a policy stays off", { policy: "no" }, "leave"],
    ["that was asked to stop stays off", { wished: "stopped" }, "leave"],
    [
      "that was asked to stop stays off, whatever was planned",
      { wished: "stopped", restarts: { ...counted(1), nextAt: new Date(now).toISOString() } },
      "leave",
    ],
    ["comes back with always", {}, "in 1000 after 1000"],
    ["comes back with always although it ended well", { exitCode: 0 }, "in 1000 after 1000"],
    ["comes back with unless-stopped", { policy: "unless-stopped", exitCode: 0 }, "in 1000 after 1000"],
    ["comes back after a failure with on-failure", { policy: "on-failure" }, "in 1000 after 1000"],
    ["stays off when it ended well with on-failure", { policy: "on-failure", exitCode: 0 }, "leave"],
    ["comes back when nobody knows how it ended", { policy: "on-failure", exitCode: null }, "in 1000 after 1000"],
    ["waits twice as long each time", { restarts: counted(1) }, "in 2000 after 2000"],
    ["waits a minute at most", { restarts: counted(9, 60_000) }, "in 60000 after 60000"],
    [
      "waits shortly again once it has run long",
      { restarts: counted(9, 60_000), startedAt: now - 10_000 },
      "in 1000 after 1000",
    ],
    ["comes back as often as is allowed", { policy: "on-failure:3", restarts: counted(2) }, "in 2000 after 2000"],
    [
      "and not more often, however long it ran",
      { policy: "on-failure:3", restarts: counted(3), startedAt: 0 },
      "leave",
    ],
    [
      "is started when that was decided before",
      { restarts: { ...counted(1), nextAt: new Date(now + 70).toISOString() } },
      "in 70 after 1000",
    ],
    ["comes back with its node at once", { exitCode: null, startedAt: 0 }, "in 0 after 0"],
    [
      "comes back with its node although it failed before",
      { restarts: counted(9, 60_000), exitCode: null, startedAt: 0 },
      "in 0 after 0",
    ],
    [
      "stays off after its node's restart with on-failure",
      { policy: "on-failure", exitCode: null, startedAt: 0 },
      "leave",
    ],
    [
      "comes back when it had failed before its node's restart",
      { policy: "on-failure", startedAt: 0 },
      "in 1000 after 1000",
    ],
  ])("%s", (_, change, expected) => {
    expect(decide(change)).toBe(expected);
  });

  it("returns with its node although it was stopped with always alone", () => {
    const returning = (["no", "on-failure", "always", "unless-stopped"] as const).filter((restart) =>
      returnsWithNode({ restart, power: "stopped" }),
    );
    expect(returning).toEqual(["always"]);
    // What was running has ended by its node's restart, which is decided as any other end.
    expect(returnsWithNode({ restart: "always", power: "running" })).toBe(false);
  });
});
