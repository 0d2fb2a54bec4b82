import type { AccessTokens } from "../identity/access-tokens.ts";
import type { Services as ServerServices } from "../server/services.ts";
import type { Services } from "../workflows/services.ts";
import { archiveServices } from "./archives.ts";
import { eventServices } from "./events.ts";
import { guestServices } from "./guests.ts";
import { imageServices } from "./images.ts";
import { type InstanceRequestContext, instanceServices } from "./instances.ts";
import { nodeServices } from "./nodes.ts";
import { oauthServices } from "./oauth.ts";
import { operationServices } from "./operations.ts";
import { poolServices } from "./pools.ts";
import { projectServices } from "./projects.ts";
import { sessionServices } from "./sessions.ts";
import { snapshotServices } from "./snapshots.ts";
import { templateServices } from "./templates.ts";
import { tokenServices } from "./tokens.ts";
import { userServices } from "./users.ts";

/** All that the server asks for, answered by the store, the workflows and the rooms. */
export function serverServices(
  services: Services,
  context: InstanceRequestContext & {
    readonly dataDir: string;
    readonly accessTokens: AccessTokens;
    /** Called once somebody has logged in as the user of this name, or set his password. */
    afterLogin(name: string): Promise<void>;
  },
): ServerServices {
  const { store } = services;
  return {
    tokens: tokenServices(store),
    projects: projectServices(store),
    sessions: sessionServices(store, context.afterLogin),
    users: userServices(store),
    oauth: oauthServices(store, context.accessTokens, context.afterLogin),
    instances: { ...instanceServices(context), ...guestServices(services) },
    images: imageServices(context),
    templates: templateServices(services, context.nodeId),
    archives: archiveServices({ ...context, host: services.host, archives: services.archives }),
    snapshots: snapshotServices(context),
    pools: poolServices(services, context),
    operations: operationServices(store),
    events: eventServices(store),
    nodes: nodeServices(store),
  };
}
