import type { Services } from "../server/services.ts";
import { followEvents, lastEventSeq, readEvents } from "../store/events.ts";
import type { Store } from "../store/store.ts";

/** Events, as the server asks for them. */
export function eventServices(store: Store): Services["events"] {
  return {
    last: () => lastEventSeq(store.queries),
    list: (scope, query) => readEvents(store.queries, { ...query, project: scope.project }),
    follow: (scope, after, signal) => followEvents(store, { project: scope.project, after }, signal),
  };
}
