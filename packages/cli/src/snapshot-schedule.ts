import type { SnapshotKeep, SnapshotSchedule } from "@berth/api";
import { parseSpan } from "./amounts.ts";

/** What `--snapshots` and `--keep` ask for; a schedule that is there goes on but for what they name. */
export type ScheduleFlags = {
  readonly snapshots?: { readonly every: { readonly everySeconds: number } | null };
  readonly keep?: Partial<SnapshotKeep>;
};

/** The options that set a schedule of snapshots. */
export const scheduleFlags = {
  snapshots: {
    kind: "parsed",
    parse: parseEvery,
    brief: "Take a snapshot of its disks by itself every so often: 1h, 1d; or off",
    placeholder: "TIME",
    optional: true,
  },
  keep: {
    kind: "parsed",
    parse: parseKeep,
    brief: "Which of those stay: one per hour, day, week and month for so many of them, 24h,7d,4w when not given",
    placeholder: "24h,7d,4w",
    optional: true,
  },
} as const;

function parseEvery(input: string): NonNullable<ScheduleFlags["snapshots"]> {
  if (input === "off") return { every: null };
  const everySeconds = parseSpan(input) / 1000;
  if (everySeconds < 1) throw new SyntaxError("must be a time such as 15m, 1h or 1d, or off");
  return { every: { everySeconds } };
}

const units = { "": "last", h: "hours", d: "days", w: "weeks", mo: "months" } as const satisfies Record<
  string,
  keyof SnapshotKeep
>;

/** What stays, as `24h,7d,4w`: hours, days, weeks, months (`mo`), and without a unit the last so many. */
function parseKeep(input: string): Partial<SnapshotKeep> {
  const keep: Partial<SnapshotKeep> = {};
  for (const part of input.split(",")) {
    const [, count = "", unit = ""] = /^([1-9]\d{0,2})(mo|[hdw]?)$/.exec(part.trim()) ?? [];
    const name = units[unit as keyof typeof units];
    if (count === "")
      throw new SyntaxError("must be as 24h,7d,4w: hours, days, weeks, months (mo), or the last so many");
    if (keep[name] !== undefined) throw new SyntaxError(`says twice how many ${name} are kept`);
    keep[name] = Number(count);
  }
  return keep;
}

/** The part of a change that the options make; undefined when they say nothing. */
export function scheduleOf({ snapshots, keep }: ScheduleFlags) {
  if (snapshots?.every === null) return null;
  if (snapshots === undefined && keep === undefined) return undefined;
  return { ...snapshots?.every, ...(keep === undefined ? {} : { keep }) };
}

const spans = [
  [604_800, "w"],
  [86_400, "d"],
  [3600, "h"],
  [60, "m"],
  [1, "s"],
] as const;

/** A schedule in words: `every 1h, keeping 24h,7d,4w`. */
export function describeSchedule({ everySeconds, keep }: SnapshotSchedule): string {
  const [seconds, unit] = spans.find(([length]) => everySeconds % length === 0) ?? [1, "s"];
  const kept = Object.entries(units).flatMap(([letter, name]) => (keep[name] > 0 ? [`${keep[name]}${letter}`] : []));
  return `every ${everySeconds / seconds}${unit}, keeping ${kept.join(",")}`;
}
