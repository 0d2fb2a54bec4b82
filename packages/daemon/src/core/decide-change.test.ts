import { describe, expect, it } from "vitest";
import { type ChangeDecision, decideChange, type ObservedChange } from "./decide-change.ts";

const done: ObservedChange = { portsReserved: true, portsToPublish: false, diskToGrow: false };

describe("what of a change is next", () => {
  it.each<[Partial<ObservedChange>, string[], ChangeDecision]>([
    [{}, [], { done: true }],
    [{ portsReserved: false, portsToPublish: true, diskToGrow: true }, [], { run: "reserve-ports" }],
    [{ portsToPublish: true, diskToGrow: true }, ["reserve-ports"], { run: "publish-ports" }],
    [{ diskToGrow: true }, ["publish-ports"], { run: "grow-disk" }],
    // Tried in vain: they wait for the next start.
    [{ portsToPublish: true, diskToGrow: true }, ["publish-ports"], { run: "grow-disk" }],
    [{ portsToPublish: true, diskToGrow: true }, ["publish-ports", "grow-disk"], { done: true }],
  ])("%j after %j is %j", (seen, finished, decision) => {
    expect(decideChange({ ...done, ...seen }, new Set(finished))).toEqual(decision);
  });
});
