import type { Services } from "../server/services.ts";
import { findEventGap, followEventsAndGaps, lastEventSeq, readEvents } from "../store/events.ts";
import type { Store } from "../store/store.ts";

/** Events, as the server asks for them. */
export function eventServices(store: Store): Services["events"] {
  return {
    last: () => lastEventSeq(store.queries),
    async list(scope, query) {
      const { items, next } = await readEvents(store.queries, { ...query, project: scope.project });
      const gap = await findEventGap(store.queries, query.after);
      return { items, next: items.length > 0 ? next : (gap?.next ?? next), gap };
    },
    follow: (scope, after, signal) => followEventsAndGaps(store, { project: scope.project, after }, signal),
  };
}
