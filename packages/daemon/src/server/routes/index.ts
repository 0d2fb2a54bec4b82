import { routes } from "@berth/api";
import type { Handlers } from "../call.ts";
import { archiveHandlers } from "./archives.ts";
import { eventHandlers } from "./events.ts";
import { imageHandlers } from "./images.ts";
import { instanceHandlers } from "./instances.ts";
import { nodeHandlers } from "./nodes.ts";
import { operationHandlers } from "./operations.ts";
import { poolHandlers } from "./pools.ts";
import { projectHandlers } from "./projects.ts";
import { sessionHandlers } from "./sessions.ts";
import { snapshotHandlers } from "./snapshots.ts";
import { templateHandlers } from "./templates.ts";
import { tokenHandlers } from "./tokens.ts";
import { userHandlers } from "./users.ts";

const rooms = [
  instanceHandlers,
  imageHandlers,
  templateHandlers,
  archiveHandlers,
  snapshotHandlers,
  poolHandlers,
  operationHandlers,
  eventHandlers,
  projectHandlers,
  tokenHandlers,
  userHandlers,
  sessionHandlers,
  nodeHandlers,
];

/** Joins the handlers of all nouns. Throws when a route of the table has none or two, or a handler has no route: types see most of it, but not a double. */
export function joinHandlers(
  parts: readonly object[] = rooms,
  names: readonly string[] = Object.keys(routes),
): Handlers {
  const joined: Record<string, unknown> = {};
  for (const [name, handler] of parts.flatMap((part) => Object.entries(part))) {
    if (name in joined) throw new Error(`Two handlers answer ${name}.`);
    if (!names.includes(name)) throw new Error(`A handler answers ${name}, which is not in the table of routes.`);
    joined[name] = handler;
  }
  for (const name of names) if (!(name in joined)) throw new Error(`No handler answers ${name}.`);
  return joined as unknown as Handlers;
}
