import type { Services as ServerServices } from "../server/services.ts";
import type { Services } from "../workflows/services.ts";
import { archiveServices } from "./archives.ts";
import { eventServices } from "./events.ts";
import { guestServices } from "./guests.ts";
import { imageServices } from "./images.ts";
import { type InstanceRequestContext, instanceServices } from "./instances.ts";
import { nodeServices } from "./nodes.ts";
import { operationServices } from "./operations.ts";
import { poolServices } from "./pools.ts";
import { projectServices } from "./projects.ts";
import { snapshotServices } from "./snapshots.ts";
import { templateServices } from "./templates.ts";
import { tokenServices } from "./tokens.ts";

/** All that the server asks for, answered by the store, the workflows and the rooms. */
export function serverServices(
  services: Services,
  context: InstanceRequestContext & { readonly dataDir: string },
): ServerServices {
  const { store } = services;
  return {
    tokens: tokenServices(store),
    projects: projectServices(store),
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
