import { setTimeout as delay } from "node:timers/promises";
import type { Check, Node } from "@berth/api";
import type { Driver } from "../drivers/driver.ts";
import { describeNode, type NodeParts } from "../nodes/describe-node.ts";
import { saveNode } from "../store/nodes.ts";
import type { Store } from "../store/store.ts";
import type { ControllerLog } from "./controller.ts";

const intervalMs = 30_000;

/** What a node's record needs beside what is asked of the machine each time. */
export interface KeepNodeOptions {
  readonly store: Store;
  readonly parts: Omit<NodeParts, "accelerator" | "locations" | "networkCheck">;
  readonly drivers: Iterable<Driver>;
  readonly node: {
    /** How guests are run; null while it is being found out. */
    accelerator(): Node["accelerator"];
    /** Resolves when that is known. */
    readonly found: Promise<void>;
    networkCheck(): Promise<Check>;
  };
  readonly log: ControllerLog;
}

/** Writes the node's record once; its first call makes the node known. */
async function recordNode(options: KeepNodeOptions, signal: AbortSignal): Promise<void> {
  const accelerator = options.node.accelerator();
  const drivers = [...options.drivers];
  // A driver's health hangs on how guests run here, which may take a minute to find out; the node is shown meanwhile.
  const locations = accelerator
    ? await Promise.all(drivers.map((driver) => describeLocation(driver, signal)))
    : drivers.map(({ location, name, abilities }) => ({
        name: location,
        driver: name,
        healthy: false,
        reason: "still finding out how guests run here",
        abilities,
      }));
  const networkCheck = await options.node.networkCheck();
  const node = await describeNode({ ...options.parts, locations, accelerator, networkCheck });
  await saveNode(options.store.queries, node);
}

/** Keeps the node's record fresh. */
export async function keepNode(options: KeepNodeOptions, signal: AbortSignal): Promise<void> {
  let known = false;
  const found = options.node.found.then(() => {
    known = true;
  });
  while (!signal.aborted) {
    await recordNode(options, signal).catch((error: unknown) => {
      if (!signal.aborted) options.log.error({ err: error }, "the node's record could not be written");
    });
    const pause = delay(intervalMs, undefined, { signal }).catch(() => undefined);
    await (known ? pause : Promise.race([pause, found]));
  }
}

async function describeLocation(driver: Driver, signal: AbortSignal): Promise<Node["locations"][number]> {
  const { location, name, abilities } = driver;
  const { healthy, reason } = await driver.probe(signal);
  return { name: location, driver: name, healthy, reason, abilities };
}
