import { type Handlers, invalidHeader } from "../call.ts";

export const eventHandlers: Handlers<"listEvents" | "streamEvents"> = {
  listEvents: ({ services, scope, query }) => {
    const { after, limit, type, subject } = query;
    return services.events.list(scope, { after, limit, type, subject });
  },
  streamEvents: async ({ services, scope, query, headers, signal }) => {
    const header = headers["last-event-id"];
    if (header !== undefined && !/^\d{1,15}$/.test(String(header))) {
      throw invalidHeader("last-event-id", "must be the number of an event");
    }
    // A browser that reconnects sends the header and its first URL once more, so the header is the newer of the two.
    const after = header !== undefined ? Number(header) : (query.after ?? (await services.events.last()));
    return {
      messages: services.events.follow(scope, after, signal),
      first: String(after),
      idOf: (one) => String("seq" in one ? one.seq : one.next),
      typeOf: (one) => ("seq" in one ? undefined : "gap"),
    };
  },
};
