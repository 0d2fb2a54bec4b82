import { z } from "zod";
import { Name, numberFromText, PageQuery, Timestamp } from "./common.ts";

/** A fact that happened. `seq` rises by one in commit order, without gaps, over the whole installation. */
export const Event = z
  .object({
    seq: z.number().int(),
    type: z.string().describe("Noun and past verb: `instance.created`."),
    project: Name,
    subject: z.object({ kind: z.string(), id: z.string(), name: z.string() }),
    operationId: z.string().nullable(),
    data: z.record(z.string(), z.json()).describe("Small facts, such as the new phase; never a secret."),
    at: Timestamp,
  })
  .meta({ id: "Event" });
export type Event = z.infer<typeof Event>;

/**
 * Events after number `after` up to `next` that are not told: they are not kept any more or, where `next` is the lower number, never were in these records. Who followed
 * them has to list anew what they were about, and goes on after `next`.
 */
export const EventGap = z.object({ after: z.number().int(), next: z.number().int() }).meta({ id: "EventGap" });
export type EventGap = z.infer<typeof EventGap>;

/** The event list: events after `after`, oldest first. */
export const ListEventsQuery = PageQuery.omit({ cursor: true }).extend({
  after: numberFromText(z.number().int().min(0)).default(0),
  type: z.string().max(64).optional(),
  subject: z.string().max(64).optional(),
});

/** Events, oldest first; `next` is the `after` to go on with, `gap` what is missing before the first of them. */
export const EventList = z.object({ items: z.array(Event), next: z.number().int(), gap: EventGap.nullable() });

/**
 * The event stream (Server-Sent Events; the id of each is its `seq`). Resume by the `Last-Event-ID` header or `after`; without either it begins now. What is missing
 * then is told first, in an event of the type `gap`.
 */
export const StreamEventsQuery = z.object({
  project: Name.optional(),
  after: numberFromText(z.number().int().min(0)).optional(),
});
