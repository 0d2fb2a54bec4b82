import type { Template } from "@berth/api";
import { describe, expect, it, test } from "vitest";
import {
  type KeptTemplate,
  type MakingSituation,
  ownBounds,
  reasonNotToMake,
  retryAfterMs,
  templatesToPrune,
} from "./template-upkeep.ts";

const minute = 60_000;
const day = 24 * 60 * minute;
const now = 1000 * day;

test("a shape whose template fails is left alone for longer each time, and for a day at most", () => {
  expect([1, 2, 3, 4].map(retryAfterMs)).toEqual([5, 10, 20, 40].map((minutes) => minutes * minute));
  expect(retryAfterMs(100)).toBe(day);
});

describe("a template that nobody waits for", () => {
  const plenty: MakingSituation = {
    before: null,
    now,
    memoryMib: 512,
    memoryAvailableMib: 4096,
    diskFreeMib: 10_000,
  };
  const failed = { state: "failed", failures: 2, updatedAt: now } as const;

  it.each<[string, Partial<MakingSituation>, RegExp | undefined]>([
    ["is made when there is none", {}, undefined],
    ["is not made twice", { before: { ...failed, state: "building" } }, /building/],
    ["is not made again", { before: { ...failed, state: "ready" } }, /ready/],
    ["is not tried again soon after it failed", { before: { ...failed, updatedAt: now - 9 * minute } }, /not long ago/],
    ["is tried again later", { before: { ...failed, updatedAt: now - 10 * minute } }, undefined],
    ["is not made when memory is short", { memoryAvailableMib: 1535 }, /memory/],
    ["is made when it just suffices", { memoryAvailableMib: 1536 }, undefined],
    ["is not made when the disk is short", { diskFreeMib: 1535 }, /disk/],
  ])("%s", (_, change, expected) => {
    const reason = reasonNotToMake({ ...plenty, ...change });
    if (expected) expect(reason).toMatch(expected);
    else expect(reason).toBeUndefined();
  });
});

describe("pruning", () => {
  const at = (daysAgo: number) => new Date(now - daysAgo * day).toISOString();
  const kept = (id: string, change: Partial<Template> = {}, more: Partial<KeptTemplate> = {}): KeptTemplate => ({
    template: {
      id,
      state: "ready",
      createdAt: at(30),
      lastUsedAt: at(1),
      sizeBytes: 100 * 2 ** 20,
      ...change,
    } as Template,
    imageThere: true,
    fits: true,
    ...more,
  });
  const pruned = (list: KeptTemplate[], bounds: Partial<typeof ownBounds> = ownBounds) =>
    templatesToPrune(list, { failedForMs: 0, ...bounds }, now).map(({ template, reason }) => [template.id, reason]);

  it("takes what nothing can be cloned from, and what was not used for long", () => {
    const list = [
      kept("good"),
      kept("image", {}, { imageThere: false }),
      kept("build", {}, { fits: false }),
      kept("old", { lastUsedAt: at(8) }),
      kept("never used", { lastUsedAt: null, createdAt: at(8) }),
      kept("new", { lastUsedAt: null, createdAt: at(1) }),
      kept("failed long ago", { state: "failed", lastUsedAt: null, createdAt: at(2) }),
      kept("failed", { state: "failed", lastUsedAt: null, createdAt: at(0.5) }),
      kept("being made", { state: "building" }, { imageThere: false }),
    ];
    expect(pruned(list)).toEqual([
      ["image", "its image is gone"],
      ["build", "the hypervisor or the guest kit is another by now"],
      ["old", "it was not used for long enough"],
      ["never used", "it was not used for long enough"],
      ["failed long ago", "it could not be made"],
    ]);
    expect(pruned(list, {}).map(([id]) => id)).toEqual(["image", "build", "failed long ago", "failed"]);
  });

  it("takes those unused for longest until the rest fits", () => {
    const list = [kept("b", { lastUsedAt: at(2) }), kept("c", { lastUsedAt: at(3) }), kept("a", { lastUsedAt: at(1) })];
    expect(pruned(list, { keepMib: 200 })).toEqual([["c", "templates take more space than is kept"]]);
    expect(pruned(list, { keepMib: 0 }).map(([id]) => id)).toEqual(["a", "b", "c"]);
    expect(pruned(list, { keepMib: 300 })).toEqual([]);
  });
});
