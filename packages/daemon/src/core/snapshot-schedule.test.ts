import { type SnapshotKeep, SnapshotSchedule } from "@berth/api";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { afterFailure, afterTurn, decideTurn, expiredSnapshots, type KeptSnapshot } from "./snapshot-schedule.ts";

const minute = 60_000;
const hour = 60 * minute;
const day = 24 * hour;
/** A Wednesday. */
const now = Date.parse("2026-03-25T12:34:56.789Z");
const every = (seconds: number) => SnapshotSchedule.parse({ everySeconds: seconds });
const hourly = every(3600);

describe("a turn", () => {
  it.each([
    ["an hour", 3600, "2026-03-25T13:00:00.000Z"],
    ["a day", 86_400, "2026-03-26T00:00:00.000Z"],
    ["a week", 604_800, "2026-03-30T00:00:00.000Z"],
    ["90 minutes", 5400, "2026-03-25T13:30:00.000Z"],
  ])("of %s begins at a whole multiple of it", (_, seconds, nextAt) => {
    const decision = decideTurn(every(seconds), null, now);
    expect(decision).toMatchObject({ due: false, status: { lastAt: new Date(now).toISOString(), nextAt } });
    expect(decision.due === false && now + decision.nextInMs).toBe(Date.parse(nextAt));
  });

  it("comes once, however many were missed", () => {
    const before = afterTurn(hourly, now);
    for (const later of [hour, 5 * hour, 400 * day]) {
      expect(decideTurn(hourly, before, now + later)).toEqual({ due: true });
      expect(decideTurn(hourly, afterTurn(hourly, now + later), now + later + 1)).toMatchObject({ due: false });
    }
  });

  it("that is the same by another interval is not had again", () => {
    expect(decideTurn(every(86_400), afterTurn(hourly, now - hour), now)).toMatchObject({
      due: false,
      status: { nextAt: "2026-03-26T00:00:00.000Z" },
    });
    expect(decideTurn(hourly, afterTurn(every(86_400), now - hour), now)).toEqual({ due: true });
  });

  it("that fails is tried again after pauses of up to an hour, and counts no more once one succeeds", () => {
    let status = afterTurn(every(86_400), now - 2 * day);
    const pauses: number[] = [];
    for (let failures = 1; failures <= 9; failures += 1) {
      status = afterFailure(status, "no room", now);
      pauses.push((Date.parse(status.nextAt) - now) / minute);
      expect(status).toMatchObject({ failures, reason: "no room" });
      const decision = decideTurn(every(86_400), status, now + 1);
      expect(decision).toEqual({ due: false, status, nextInMs: Date.parse(status.nextAt) - now - 1 });
      expect(decideTurn(every(86_400), status, Date.parse(status.nextAt))).toEqual({ due: true });
    }
    expect(pauses).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60]);
    expect(afterTurn(hourly, now)).toMatchObject({ failures: 0, reason: "" });
  });

  it("is never further away than its interval or the longest pause, whatever the clock does, and is had once per reading of it", () => {
    const moment = fc.integer({ min: 0, max: 4 * 365 * day });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 14 * 86_400 }), fc.array(moment, { minLength: 1 }), (seconds, readings) => {
        const schedule = every(seconds);
        let status = null;
        for (const at of readings) {
          const decision = decideTurn(schedule, status, at);
          if (decision.due) {
            status = afterTurn(schedule, at);
            expect(decideTurn(schedule, status, at)).toMatchObject({ due: false });
          } else {
            expect(decision.nextInMs).toBeGreaterThan(0);
            expect(decision.nextInMs).toBeLessThanOrEqual(seconds * 1000);
            ({ status } = decision);
          }
        }
        const failed = afterFailure(afterTurn(schedule, 0), "x", readings[0] ?? 0);
        for (const at of readings) {
          const decision = decideTurn(schedule, failed, at);
          if (!decision.due) expect(decision.nextInMs).toBeLessThanOrEqual(Math.max(hour, seconds * 1000));
        }
      }),
    );
  });
});

const nothing: SnapshotKeep = { last: 0, hours: 0, days: 0, weeks: 0, months: 0 };
const at = (...moments: number[]): KeptSnapshot[] => moments.map((takenAt) => ({ id: String(takenAt), takenAt }));

/** What is left when one is taken each hour for so long, and the rule is followed each time. */
function afterHours(hours: number, keep: SnapshotKeep): number[] {
  let left: KeptSnapshot[] = [];
  for (let taken = 0; taken < hours; taken += 1) {
    left.push(...at(now + taken * hour));
    const expired = new Set(expiredSnapshots(left, keep));
    left = left.filter(({ id }) => !expired.has(id));
  }
  const last = now + (hours - 1) * hour;
  return left.map(({ takenAt }) => (last - takenAt) / hour).reverse();
}

describe("what a schedule keeps", () => {
  it("is one of each hour for 24 hours, of each day for 7 days, of each week for 4 weeks", () => {
    const keep = { ...nothing, hours: 24, days: 7, weeks: 4 };
    // 12:34 on a Wednesday, nine weeks later: days end at 23:34, weeks on Sunday.
    const ages = afterHours(9 * 7 * 24 + 1, keep);
    const hours = Array.from({ length: 24 }, (_, age) => age);
    const days = [1, 2, 3, 4, 5, 6].map((before) => before * 24 - 11);
    const weeks = [0, 1, 2].map((before) => (before * 7 + 3) * 24 - 11);
    expect(ages).toEqual([...new Set([...hours, ...days, ...weeks])].sort((one, other) => one - other));
  });

  it("has the newest, though nothing else keeps it, and the last so many", () => {
    const taken = at(now, now - 1, now - 2, now - 3);
    expect(expiredSnapshots(taken, nothing)).toEqual([now - 1, now - 2, now - 3].map(String));
    expect(expiredSnapshots(taken, { ...nothing, last: 3 })).toEqual([String(now - 3)]);
    expect(expiredSnapshots([], nothing)).toEqual([]);
  });

  it("is by months of the calendar", () => {
    const taken = ["2026-01-01", "2026-01-31", "2026-02-28", "2026-03-01"].map((date) => Date.parse(date));
    expect(expiredSnapshots(at(...taken), { ...nothing, months: 2 })).toEqual([taken[1], taken[0]].map(String));
  });

  it("obeys the rule for any times: nothing goes that it keeps, all else goes, and asking again changes nothing", () => {
    const span = fc.integer({ min: 0, max: 400 * day });
    const amounts = fc.record({
      last: fc.nat(4),
      hours: fc.nat(30),
      days: fc.nat(8),
      weeks: fc.nat(5),
      months: fc.nat(4),
    });
    const periods = {
      hours: (time: number) => new Date(time).toISOString().slice(0, 13),
      days: (time: number) => new Date(time).toISOString().slice(0, 10),
      weeks: (time: number) => mondayOf(time),
      months: (time: number) => new Date(time).toISOString().slice(0, 7),
    };
    fc.assert(
      fc.property(fc.uniqueArray(span), amounts, (times, keep) => {
        const taken = at(...times);
        const expired = new Set(expiredSnapshots(taken, keep));
        for (const { id, takenAt } of taken) {
          const newer = times.filter((time) => time > takenAt);
          const isKept =
            newer.length < Math.max(1, keep.last) ||
            (["hours", "days", "weeks", "months"] as const).some((unit) => {
              const mine = periods[unit](takenAt);
              const others = newer.map(periods[unit]);
              return !others.includes(mine) && new Set(others).size < keep[unit];
            });
          expect(expired.has(id)).toBe(!isKept);
        }
        expect(
          expiredSnapshots(
            taken.filter(({ id }) => !expired.has(id)),
            keep,
          ),
        ).toEqual([]);
      }),
    );
  });

  it("loses nothing but one place to a snapshot that a wrong clock took", () => {
    const keep = { ...nothing, hours: 24, days: 7 };
    const good = at(...Array.from({ length: 20 }, (_, ago) => now - ago * hour));
    expect(expiredSnapshots([...good, ...at(now + 4000 * day)], keep)).toEqual([]);
    expect(expiredSnapshots([...good, ...at(0)], keep)).toEqual([]);
  });
});

function mondayOf(time: number): string {
  const date = new Date(time);
  date.setUTCDate(date.getUTCDate() - ((date.getUTCDay() + 6) % 7));
  return date.toISOString().slice(0, 10);
}
