import type { Instance } from "@berth/api";
import { endChange, fieldsAsked, wishesOf, withWishes } from "../core/change-instance.ts";
import { decideChange, type ObservedChange } from "../core/decide-change.ts";
import { keepsPorts, mayPublishLive } from "../core/published-ports.ts";
import type { Claimed, Outcome, Workflow } from "../operations/workflow.ts";
import { appendEvent } from "../store/events.ts";
import { findInstance, readInstance, readOpenChanges, readRun, updateInstance } from "../store/instances.ts";
import type { Transaction } from "../store/store.ts";
import { instanceEvent } from "./instance-record.ts";
import { findHandle } from "./observe-instance.ts";
import type { Services } from "./services.ts";
import { growDisk } from "./steps/grow-disk.ts";
import { publishPorts } from "./steps/publish-ports.ts";
import { reservePorts } from "./steps/reserve-ports.ts";

/** Makes true, as far as it can be while the instance runs or rests, what was wished for when the operation was asked for. */
export function changeWorkflow(services: Services): Workflow<ObservedChange | undefined> {
  return {
    type: "instance.change",
    steps: [reservePorts(services), publishPorts(services), growDisk(services)],
    inspect: async (operation) => {
      const instance = await readInstance(services.store.queries, operation.target.id);
      return instance && observe(services, instance);
    },
    decide: ({ observed, journal }) => {
      const finished = [...journal].filter(([, { status }]) => status === "succeeded").map(([name]) => name);
      return observed ? decideChange(observed, new Set(finished)) : { done: true };
    },
    settle,
  };
}

/** What is pending of a machine that runs is looked at only where it can be changed meanwhile. */
async function observe(services: Services, instance: Instance): Promise<ObservedChange> {
  const { spec, status, location } = instance;
  const driver = services.driver(location);
  const isPending = (field: string) => status.pending.includes(field);
  const portsWait = isPending("ports") && driver.publish !== undefined && (await mayPublish(services, instance));
  const diskWaits = isPending("diskMib") && driver.growDisk !== undefined;
  const runs = (portsWait || diskWaits) && (await isRunning(services, instance));
  return {
    portsReserved: keepsPorts(spec.ports, status.ports),
    portsToPublish: runs && portsWait,
    diskToGrow: runs && diskWaits,
  };
}

async function mayPublish({ store }: Services, { id, status }: Instance): Promise<boolean> {
  return mayPublishLive((await readRun(store.queries, id))?.ports ?? [], status.ports);
}

async function isRunning(services: Services, instance: Instance): Promise<boolean> {
  const handle = await findHandle(services, instance);
  return handle !== undefined && (await services.driver(instance.location).inspect(handle)).power === "running";
}

/** The wishes were written when they were asked for; those of a change that failed, or was cancelled, are taken back. */
async function settle(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const instance = await readInstance(tx, operation.target.id);
  if (!instance) return;
  const failed = outcome.status !== "succeeded";
  const openChanges = await readOpenChanges(tx, instance.id);
  const { wishes, open } = endChange(wishesOf(instance), openChanges, operation.id, failed);
  if (!failed) {
    await updateInstance(tx, instance.id, { openChanges: open });
    const fields = fieldsAsked(openChanges, operation.id);
    appendEvent(tx, instanceEvent(instance, "instance.changed", operation.id, { fields }));
    return;
  }
  // Somebody may have taken the former name meanwhile.
  const isFree = wishes.name === instance.name || !(await findInstance(tx, instance.project, wishes.name));
  const back = withWishes(instance, isFree ? wishes : { ...wishes, name: instance.name });
  await updateInstance(tx, instance.id, { ...back, openChanges: open });
}
