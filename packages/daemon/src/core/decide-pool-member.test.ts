import { BerthError } from "@berth/api";
import { describe, expect, it } from "vitest";
import { decidePoolMember, type ObservedPoolMember, type PoolMemberStepName } from "./decide-pool-member.ts";

const nothing: ObservedPoolMember = {
  template: { state: "ready" },
  artifact: true,
  disks: false,
  made: false,
  power: "stopped",
  powerReason: "",
  prepared: false,
};
const running: ObservedPoolMember = { ...nothing, disks: true, made: true, power: "running" };
const failed: ObservedPoolMember["template"] = { state: "failed", error: new BerthError("template_failed", "no") };

function next(base: ObservedPoolMember, seen: Partial<ObservedPoolMember>, ...finished: PoolMemberStepName[]) {
  const decision = decidePoolMember({ ...base, ...seen }, new Set(finished));
  if ("run" in decision) return decision.run;
  if ("wait" in decision) return "wait";
  return "fail" in decision ? decision.fail.code : "done";
}

describe("what is next for a machine of a pool", () => {
  it.each<[string, string, () => string]>([
    ["its template is asked for", "request-template", () => next(nothing, { template: { state: "missing" } })],
    ["one that failed for another too", "request-template", () => next(nothing, { template: failed })],
    ["and waited for", "wait", () => next(nothing, { template: { state: "building" } })],
    ["one that fails again fails it", "template_failed", () => next(nothing, { template: failed }, "request-template")],
    [
      "so does one that went",
      "template_failed",
      () => next(nothing, { template: { state: "missing" } }, "request-template"),
    ],
    ["without an image there is none", "template_failed", () => next(nothing, { artifact: false })],
    ["then come the disks", "create-disks", () => next(nothing, {})],
    ["then the machine", "create-machine", () => next(nothing, { disks: true })],
    ["then the clone", "start-machine", () => next(nothing, { disks: true, made: true })],
    ["one that goes off fails", "template_failed", () => next(nothing, { disks: true, made: true }, "start-machine")],
    ["its guest is heard", "await-prepared", () => next(running, {}, "start-machine")],
    ["one that says nothing fails", "template_failed", () => next(running, {}, "start-machine", "await-prepared")],
    ["then it stands still", "pause-machine", () => next(running, { prepared: true })],
    ["and is done", "done", () => next(running, { power: "paused" }, "pause-machine")],
    ["one that a killed berthd left paused goes on", "start-machine", () => next(running, { power: "paused" })],
  ])("%s", (_, expected, decide) => {
    expect(decide()).toBe(expected);
  });
});
