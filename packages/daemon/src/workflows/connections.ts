import type { Instance } from "@berth/api";
import type { PortForward } from "../core/descriptions.ts";
import type { Handle } from "../drivers/driver.ts";
import type { Services } from "./services.ts";

/**
 * How many connections to an instance's published ports there are: those that its driver knows, those that this node's kernel has or that are on their way to one, and those that
 * berthd holds or passes on. One may be counted more than once.
 */
export async function connectionsOf(
  services: Services,
  { id, location }: Instance,
  handle: Handle | null,
  ports: readonly PortForward[],
): Promise<number> {
  const { standIns, traffic } = services;
  const known = handle ? ((await services.driver(location).openConnections?.(handle)) ?? 0) : 0;
  return known + standIns.waiting(id) + standIns.relayed(id) + (await traffic.openConnections(ports));
}
