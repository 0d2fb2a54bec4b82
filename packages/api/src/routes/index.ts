import { archiveRoutes } from "./archives.ts";
import { eventRoutes } from "./events.ts";
import { imageRoutes } from "./images.ts";
import { instanceRoutes } from "./instances.ts";
import { nodeRoutes } from "./nodes.ts";
import { operationRoutes } from "./operations.ts";
import { poolRoutes } from "./pools.ts";
import { projectRoutes } from "./projects.ts";
import { sessionRoutes } from "./sessions.ts";
import { snapshotRoutes } from "./snapshots.ts";
import { templateRoutes } from "./templates.ts";
import { tokenRoutes } from "./tokens.ts";
import { userRoutes } from "./users.ts";

/** Every request the API answers, by the name the client calls it by. */
export const routes = {
  ...instanceRoutes,
  ...imageRoutes,
  ...templateRoutes,
  ...archiveRoutes,
  ...snapshotRoutes,
  ...poolRoutes,
  ...operationRoutes,
  ...eventRoutes,
  ...projectRoutes,
  ...tokenRoutes,
  ...userRoutes,
  ...sessionRoutes,
  ...nodeRoutes,
} as const;

export type RouteName = keyof typeof routes;
