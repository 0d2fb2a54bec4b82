import { z } from "zod";
import { Timestamp } from "./common.ts";

const amount = z.number().int().min(0).max(60);

/**
 * Which automatic snapshots stay, as restic's and zfs tools' rules have it: the newest of each of the last so many hours, days, weeks and months that have one, and the last
 * so many whatever their time. One stays when any of these keeps it; the newest always does. Periods are of UTC, weeks begin on Monday.
 */
export const SnapshotKeep = z
  .strictObject({
    last: amount.default(0).describe("This many of the newest."),
    hours: amount.default(0),
    days: amount.default(0),
    weeks: amount.default(0),
    months: amount.default(0),
  })
  .refine((keep) => total(keep) > 0, "must keep something: 24 hours, for instance")
  .refine((keep) => total(keep) <= 60, "must not keep more than 60 altogether: a disk can stand on 64 files");
export type SnapshotKeep = z.infer<typeof SnapshotKeep>;

function total(keep: Readonly<Record<"last" | "hours" | "days" | "weeks" | "months", number>>): number {
  return keep.last + keep.hours + keep.days + keep.weeks + keep.months;
}

/** What is kept when nothing is said of it. */
const usualKeep: SnapshotKeep = { last: 0, hours: 24, days: 7, weeks: 4, months: 0 };

/** Takes snapshots of an instance by itself, of its disks alone, and deletes those again that need not stay. */
export const SnapshotSchedule = z.strictObject({
  everySeconds: z
    .number()
    .int()
    .min(1)
    .max(366 * 24 * 3600)
    .describe(
      "How long from one to the next. They are at whole multiples of it since a Monday, 00:00 UTC: 3600 is on the hour, 86400 at midnight.",
    ),
  keep: SnapshotKeep.default(usualKeep),
});
export type SnapshotSchedule = z.infer<typeof SnapshotSchedule>;

/** A change of a schedule: what is left out stays as it is, and `keep` is replaced as a whole. */
export const ChangeSnapshotSchedule = z
  .strictObject({ everySeconds: SnapshotSchedule.shape.everySeconds, keep: SnapshotKeep })
  .partial();

/** How an instance's schedule of snapshots is doing. */
export const SnapshotScheduleStatus = z
  .object({
    lastAt: Timestamp.describe(
      "When its last turn was: one was taken, or nothing had changed; or when the schedule began.",
    ),
    nextAt: Timestamp.describe("When its next turn is; in the past while that waits for who holds the instance."),
    failures: z.number().int().describe("How often in a row this turn has failed. The pauses between get longer."),
    reason: z.string().describe("Why it failed, in words; empty otherwise."),
  })
  .meta({ id: "SnapshotScheduleStatus" });
export type SnapshotScheduleStatus = z.infer<typeof SnapshotScheduleStatus>;
