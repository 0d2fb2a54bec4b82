import type { Instance } from "@berth/api";
import type { PortForward } from "../core/descriptions.ts";
import { runOf } from "../core/instance-run.ts";
import { readRun } from "../store/instances.ts";
import type { Services } from "./services.ts";

/** The ports that an instance publishes in its present run, or would in its next one when it never ran. */
export async function runPorts({ store }: Services, instance: Instance): Promise<readonly PortForward[]> {
  return ((await readRun(store.queries, instance.id)) ?? runOf(instance)).ports;
}
