import { z } from "zod";
import { Event, EventGap, EventList, ListEventsQuery, StreamEventsQuery } from "../event.ts";
import { route } from "../route.ts";

/** The requests about events. */
export const eventRoutes = {
  listEvents: route({
    method: "GET",
    path: "/api/v1/events",
    summary: "List events, oldest first",
    resource: "event",
    action: "list",
    kind: "json",
    query: ListEventsQuery,
    status: 200,
    response: EventList,
  }),
  streamEvents: route({
    method: "GET",
    path: "/api/v1/events/stream",
    summary: "Follow events as they happen",
    description:
      "When events after the number asked for are not kept any more, the first message has the type `gap` (and the data of an EventGap): list anew what you follow, then go on.",
    resource: "event",
    action: "list",
    kind: "events",
    query: StreamEventsQuery,
    status: 200,
    response: z.union([Event, EventGap]),
  }),
};
