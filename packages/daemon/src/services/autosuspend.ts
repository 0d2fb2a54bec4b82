import { BerthError, type InstanceSpec } from "@berth/api";
import type { Driver } from "../drivers/driver.ts";

/** Refuses what takes a driver that saves memory, and guests that stand still meanwhile. */
export function requireMemory(driver: Driver | undefined, location: string): void {
  if (!driver?.saveMemory || !driver.abilities.channel)
    throw new BerthError("unsupported_by_driver", `${location} cannot save the memory of its machines.`);
}

/** What the node says of those that sleep by themselves. */
interface SleepContext {
  readonly drivers: ReadonlyMap<string, Driver>;
  /** Why nobody can be woken by connections here; empty when that can be. */
  readonly cannotStandIn: string;
}

/** Refuses an instance to sleep by itself where nothing could wake it. */
export function checkAutosuspend(
  context: SleepContext,
  location: string,
  { autosuspend, ports }: Pick<InstanceSpec, "autosuspend" | "ports">,
): void {
  if (!autosuspend) return;
  requireMemory(context.drivers.get(location), location);
  if (context.cannotStandIn) throw new BerthError("unsupported_by_driver", context.cannotStandIn);
  if (!ports.some(({ protocol }) => protocol === "tcp"))
    throw new BerthError("invalid_request", "It publishes no TCP port: no connection could wake it.");
}
