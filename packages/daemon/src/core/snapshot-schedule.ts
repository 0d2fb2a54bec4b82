import type { SnapshotKeep, SnapshotSchedule, SnapshotScheduleStatus } from "@berth/api";

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;
/** Monday, 5 January 1970, 00:00 UTC: weeks begin on Monday, and days at midnight, whatever the node's time zone does. */
const firstMondayMs = 4 * dayMs;
/** The first pause after a failure, and the longest. */
const firstPauseMs = minuteMs;
const longestPauseMs = 60 * minuteMs;

/** When the turn began that a moment belongs to; all in milliseconds since the epoch. */
function turnOf(at: number, { everySeconds }: SnapshotSchedule): number {
  const everyMs = everySeconds * 1000;
  return firstMondayMs + Math.floor((at - firstMondayMs) / everyMs) * everyMs;
}

function text(at: number): string {
  return new Date(at).toISOString();
}

/** The schedule after a turn that needs no other until the next: it was begun, a snapshot was taken at that moment, or nothing had changed; pure. */
export function afterTurn(schedule: SnapshotSchedule, at: number): SnapshotScheduleStatus {
  const nextAt = turnOf(at, schedule) + schedule.everySeconds * 1000;
  return { lastAt: text(at), nextAt: text(nextAt), failures: 0, reason: "" };
}

/** The schedule after a turn that failed: it is tried again after a pause, each twice as long as the one before, an hour at most; pure. */
export function afterFailure(before: SnapshotScheduleStatus, reason: string, now: number): SnapshotScheduleStatus {
  const failures = before.failures + 1;
  const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** Math.min(failures - 1, 30));
  return { ...before, failures, reason, nextAt: text(now + pauseMs) };
}

/** Whether an instance's turn has come, and how its schedule stands otherwise. */
export type ScheduleDecision =
  | { readonly due: true }
  | { readonly due: false; readonly status: SnapshotScheduleStatus; readonly nextInMs: number };

/**
 * Whether a snapshot is due; pure. It is when the last turn was another one than this: however many were missed, they are made up for by one, and a clock that was set back
 * costs one more at most.
 */
export function decideTurn(
  schedule: SnapshotSchedule,
  status: SnapshotScheduleStatus | null,
  now: number,
): ScheduleDecision {
  const begun = status ?? afterTurn(schedule, now);
  const lastAt = Date.parse(begun.lastAt);
  const inTurn = turnOf(lastAt, schedule) === turnOf(now, schedule);
  if (inTurn) {
    const current = begun.failures > 0 ? { ...begun, failures: 0, reason: "" } : begun;
    const { nextAt } = afterTurn(schedule, lastAt);
    return { due: false, status: { ...current, nextAt }, nextInMs: Date.parse(nextAt) - now };
  }
  const pausedMs = begun.failures > 0 ? Date.parse(begun.nextAt) - now : 0;
  // A longer one than there is was written by a clock that was set back.
  if (pausedMs > 0 && pausedMs <= longestPauseMs) return { due: false, status: begun, nextInMs: pausedMs };
  return { due: true };
}

/** An automatic snapshot, by when it was taken: milliseconds since the epoch. */
export interface KeptSnapshot {
  readonly id: string;
  readonly takenAt: number;
}

/** The period that a moment belongs to, by its number; each unit's periods follow one another without a gap. */
const periodOf: Readonly<Record<Exclude<keyof SnapshotKeep, "last">, (at: number) => number>> = {
  hours: (at) => Math.floor(at / (60 * minuteMs)),
  days: (at) => Math.floor(at / dayMs),
  weeks: (at) => Math.floor((at - firstMondayMs) / (7 * dayMs)),
  months: (at) => new Date(at).getUTCFullYear() * 12 + new Date(at).getUTCMonth(),
};
const units = Object.keys(periodOf) as (keyof typeof periodOf)[];

/**
 * The ids of those that need not stay; pure. Of each hour, day, week and month that has one, the newest counts, and so many of these are kept, newest periods first. It asks no
 * clock: while none are taken none go.
 */
export function expiredSnapshots(snapshots: readonly KeptSnapshot[], keep: SnapshotKeep): string[] {
  const newestFirst = snapshots.toSorted((one, other) => other.takenAt - one.takenAt || (one.id < other.id ? 1 : -1));
  const kept = new Set(newestFirst.slice(0, Math.max(1, keep.last)));
  for (const unit of units) {
    const newestOf = new Map<number, KeptSnapshot>();
    for (const snapshot of newestFirst) {
      const period = periodOf[unit](snapshot.takenAt);
      if (!newestOf.has(period)) newestOf.set(period, snapshot);
    }
    for (const snapshot of [...newestOf.values()].slice(0, keep[unit])) kept.add(snapshot);
  }
  return newestFirst.filter((snapshot) => !kept.has(snapshot)).map(({ id }) => id);
}
