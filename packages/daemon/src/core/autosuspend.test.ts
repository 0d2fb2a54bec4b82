import { describe, expect, test } from "vitest";
import { decideKnocking, isIdle, lookIntervalMs, type Need, watchIdleness } from "./autosuspend.ts";

const quiet: Need = { ready: true, connections: 0, sessions: 0, activity: 7 };
const minute = { idleSeconds: 60 };

describe("an instance that sleeps when nobody needs it", () => {
  test("sleeps when its time has passed since it was first seen", () => {
    const first = watchIdleness(undefined, quiet, 1000);
    const later = watchIdleness(first, quiet, 61_000);
    expect(isIdle(later, minute, 60_999)).toBe(false);
    expect(isIdle(later, minute, 61_000)).toBe(true);
  });

  test.each<[string, Partial<Need>]>([
    ["a connection is open", { connections: 1 }],
    ["somebody has a session", { sessions: 1 }],
    ["something came and went since the last look", { activity: 8 }],
    ["its counters began anew", { activity: 0 }],
    ["its program does not serve yet", { ready: false }],
  ])("does not while %s, and its time begins anew", (_, need) => {
    const first = watchIdleness(undefined, quiet, 0);
    const busy = watchIdleness(first, { ...quiet, ...need }, 59_000);
    expect(isIdle(busy, minute, 60_000)).toBe(false);
    const after = watchIdleness(busy, { ...quiet, activity: need.activity ?? quiet.activity }, 119_000);
    expect(isIdle(after, minute, 118_999)).toBe(false);
    expect(isIdle(after, minute, 119_000)).toBe(true);
  });

  test("is looked at often enough for its time, and not more often than it takes", () => {
    expect(lookIntervalMs([minute, { idleSeconds: 4 }])).toBe(1000);
    expect(lookIntervalMs([{ idleSeconds: 1 }])).toBe(250);
    expect(lookIntervalMs([{ idleSeconds: 3600 }])).toBe(2000);
  });
});

describe("who knocks at a sleeper", () => {
  const knocking = { waiting: 1, tried: false, retryAt: 0 };

  test("wakes it", () => {
    expect(decideKnocking("suspended", knocking, 0)).toBe("wake");
    expect(decideKnocking("suspended", { ...knocking, waiting: 0 }, 0)).toBe("nothing");
    expect(decideKnocking("starting", knocking, 0)).toBe("nothing");
  });

  test("is turned away when it cannot be woken, for a while", () => {
    expect(decideKnocking("suspended", { ...knocking, tried: true }, 0)).toBe("turn-away");
    expect(decideKnocking("suspended", { ...knocking, retryAt: 5000 }, 4999)).toBe("turn-away");
    expect(decideKnocking("suspended", { ...knocking, retryAt: 5000 }, 5000)).toBe("wake");
  });
});
