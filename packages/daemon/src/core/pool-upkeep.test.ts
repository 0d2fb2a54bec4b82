import { describe, expect, it } from "vitest";
import { type PoolSituation, planPool } from "./pool-upkeep.ts";

type Member = PoolSituation["members"][number];
const waiting = (id: string, change: Partial<Member> = {}): Member => ({
  id,
  state: "ready",
  fits: true,
  waits: true,
  ...change,
});
const empty: PoolSituation = {
  size: 3,
  members: [],
  failures: 0,
  failedAt: null,
  now: 1_000_000_000,
  memoryMib: 512,
  memoryAvailableMib: 100_000,
};
const plan = (change: Partial<PoolSituation>) => planPool({ ...empty, ...change });

describe("a pool", () => {
  it.each<[string, Partial<PoolSituation>, ReturnType<typeof planPool>]>([
    ["is filled a few at a time", {}, { make: 2, drop: [], reason: "" }],
    ["counts what is being made", { members: [waiting("a", { state: "making" })] }, { make: 1, drop: [], reason: "" }],
    ["is left alone when it is full", { size: 1, members: [waiting("a")] }, { make: 0, drop: [], reason: "" }],
    [
      "lets go of those that have waited longest when it is too full",
      { size: 1, members: [waiting("a"), waiting("b"), waiting("c", { state: "making" })] },
      { make: 0, drop: ["a", "b"], reason: "" },
    ],
    [
      "replaces what does not fit any more, or died; not what is leaving",
      { members: [waiting("a", { fits: false }), waiting("b", { waits: false }), waiting("c", { state: "leaving" })] },
      { make: 2, drop: ["a", "b"], reason: "" },
    ],
    [
      "waits after a failure",
      { failures: 1, failedAt: empty.now - 299_999 },
      { make: 0, drop: [], reason: "the last machine for it could not be made; it is tried again later" },
    ],
    ["and is tried again", { failures: 1, failedAt: empty.now - 300_000 }, { make: 2, drop: [], reason: "" }],
    [
      "is not filled when memory is short",
      { memoryAvailableMib: 1023 },
      { make: 0, drop: [], reason: "the node is short of memory" },
    ],
    ["is filled as far as it goes", { memoryAvailableMib: 1024 }, { make: 1, drop: [], reason: "" }],
  ])("%s", (_, change, expected) => {
    expect(plan(change)).toEqual(expected);
  });
});
