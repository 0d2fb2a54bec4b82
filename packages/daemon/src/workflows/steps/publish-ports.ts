import { BerthError, type Instance, InstanceSpec } from "@berth/api";
import { z } from "zod";
import { type InstanceRun, runOf } from "../../core/instance-run.ts";
import type { Step } from "../../operations/workflow.ts";
import { lockInstance, readRun, updateInstance } from "../../store/instances.ts";
import type { Transaction } from "../../store/store.ts";
import { watchedPorts } from "../guest-access.ts";
import { instanceMachine } from "../machine-inputs.ts";
import { findHandle } from "../observe-instance.ts";
import { askGuest } from "../reach-guest.ts";
import type { Services } from "../services.ts";
import { targetInstance } from "./step.ts";

/** How long a guest may take to look at its new ports, in milliseconds. */
const watchMs = 5_000;

const Result = z.object({ former: InstanceSpec.shape.ports });

/**
 * Makes a machine that runs publish what is reserved. Where the driver cannot do that for these ports, they wait for the next start: nothing of it is done then.
 */
export function publishPorts(services: Services): Step {
  const { store } = services;
  return {
    name: "publish-ports",
    async run(context) {
      const instance = await targetInstance(services, context);
      const run = (await readRun(store.queries, instance.id)) ?? runOf(instance);
      const ports = instance.status.ports;
      const done = await change(services, instance, { ...run, ports }, context.signal, context.log);
      if (!done) return undefined;
      return { result: { former: run.ports }, write: writePorts(instance.id, ports) };
    },
    async undo(context) {
      const instance = await targetInstance(services, context);
      const run = await readRun(store.queries, instance.id);
      if (!run) return;
      // One that was cut off has written nothing down: what the row says is what it was.
      const former = Result.safeParse(context.journal.get("publish-ports")?.result).data?.former ?? run.ports;
      await change(services, instance, { ...run, ports: former }, context.signal, context.log);
      await store.transaction(writePorts(instance.id, former));
    },
  };
}

const writePorts = (id: string, ports: InstanceSpec["ports"]) => async (tx: Transaction) => {
  await lockInstance(tx, id);
  const run = await readRun(tx, id);
  if (run) await updateInstance(tx, id, { run: { ...run, ports } });
};

/** Whether the machine publishes these ports now; one that is off by now need not. */
async function change(
  services: Services,
  instance: Instance,
  run: InstanceRun,
  signal: AbortSignal,
  log: (line: string) => void,
): Promise<boolean> {
  const driver = services.driver(instance.location);
  const handle = await findHandle(services, instance);
  if (!handle || !driver.publish) return false;
  try {
    await driver.publish(handle, run.ports);
  } catch (error) {
    if (!(error instanceof BerthError) || !notNow.has(error.code)) throw error;
    log(`they change at its next start: ${error.message}`);
    return false;
  }
  // One that sleeps and wakes is begun from what it is made of.
  await driver.configure(handle, await instanceMachine(services, instance, run));
  if (!driver.abilities.channel) return true;
  // Ready is who listens on what is published now.
  await askGuest(services, { instance, driver, handle }, { ms: watchMs, signal }, (limit) =>
    services.guests.watch(instance.id, watchedPorts(run.ports), limit),
  ).catch((error: Error) => {
    if (signal.aborted) throw error;
    log(`its readiness tells of the former ports until its next start: ${error.message}`);
  });
  return true;
}

const notNow: ReadonlySet<string> = new Set(["unsupported_by_driver", "instance_not_running"]);
