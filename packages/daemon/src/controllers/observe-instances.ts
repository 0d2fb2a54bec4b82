import { setTimeout as delay } from "node:timers/promises";
import { type Instance, type InstancePhase, instancePhases } from "@berth/api";
import { observedStatus, seenState, statusChanged } from "../core/instance-status.ts";
import { followEvents, lastEventSeq } from "../store/events.ts";
import { listInstanceIds, lockInstance, readInstance } from "../store/instances.ts";
import { findBlankMachine } from "../workflows/blank-machine.ts";
import { attachGuest } from "../workflows/guest-access.ts";
import { writeStatus } from "../workflows/instance-record.ts";
import { findHandle, observeRun } from "../workflows/observe-instance.ts";
import type { Services } from "../workflows/services.ts";
import type { ControllerLog } from "./controller.ts";
import { Looks } from "./looks.ts";

/** How often instances that run, or are about to, are looked at although nothing was heard of them, in milliseconds. */
const sweepMs = 10_000;
const looksAtOnce = 4;
/** Instances in these phases stay as they are unless an operation changes them. */
const resting: readonly InstancePhase[] = ["stopped", "failed", "suspended"];
const restless = instancePhases.filter((phase) => !resting.includes(phase));
/** Between two resting ones when the daemon has started, in milliseconds: there may be thousands, and nobody waits for them. */
const restingPauseMs = 10;

/**
 * Keeps the status of the node's instances true while no operation works on them: looks at one when its guest says something and when an operation on it
 * ends, now and then at those that run, and once at all of them when the daemon has started.
 */
export async function observeInstances(
  services: Services,
  nodeId: string,
  log: ControllerLog,
  signal: AbortSignal,
): Promise<void> {
  const { queries } = services.store;
  /** Those whose machine was on when they were last looked at, whatever their phase. */
  const on = new Set<string>();
  const looks = new Looks(
    looksAtOnce,
    async (id) => {
      if (await look(services, id)) on.add(id);
      else on.delete(id);
    },
    (id, error) => log.error({ instance: id, err: error }, "an instance could not be looked at"),
  );
  const unsubscribe = services.guests.onChange((id) => void looks.ask(id));
  const sweep = async () => {
    const ids = new Set([...(await listInstanceIds(queries, { nodeId, phases: restless })), ...on]);
    await Promise.all([...ids].map((id) => looks.ask(id)));
  };
  const lookAtResting = async () => {
    for (const id of await listInstanceIds(queries, { nodeId, phases: resting })) {
      await delay(restingPauseMs, undefined, { signal });
      await looks.ask(id);
    }
  };
  const keepSweeping = async () => {
    for (;;) {
      await delay(sweepMs, undefined, { signal });
      await logged(sweep());
    }
  };
  const logged = (work: Promise<void>) =>
    work.catch((error: unknown) => {
      if (!signal.aborted) log.error({ err: error }, "the instances could not be listed");
    });

  const after = await lastEventSeq(queries);
  await logged(sweep());
  const parts = [logged(lookAtResting()), logged(keepSweeping())];
  try {
    for await (const event of followEvents(services.store, { after }, signal)) {
      const target = event.data.target;
      if (/^operation\.(succeeded|failed|cancelled)$/.test(event.type) && isInstance(target)) void looks.ask(target.id);
    }
  } finally {
    unsubscribe();
    await Promise.all(parts);
    await looks.idle();
  }
}

function isInstance(target: unknown): target is { kind: "instance"; id: string } {
  return typeof target === "object" && target !== null && "kind" in target && target.kind === "instance";
}

/**
 * Looks at one instance and writes what is new. An instance an operation holds is left to it, but for its guest being listened to. Answers whether its machine
 * is on.
 */
async function look(services: Services, id: string): Promise<boolean> {
  const { store } = services;
  const instance = await readInstance(store.queries, id);
  if (!instance) {
    // A machine that is nobody's is listened to by whoever makes it.
    if (!(await findBlankMachine(services, id))) services.guests.detach(id);
    return false;
  }
  if (instance.operationId) return false;
  const driver = services.driver(instance.location);
  const handle = await findHandle(services, instance);
  const observed = await observeRun(services, instance, handle);
  const isOn = handle !== undefined && observed.power !== "stopped";
  if (isOn) await attachGuest(services, instance, driver, handle);
  else services.guests.detach(id);
  const statusOf = ({ status, spec }: Instance) =>
    observedStatus(status, seenState(observed), spec.power, new Date().toISOString());
  // Most looks see nothing new, and are no reason to stop everybody else's writing.
  if (!statusChanged(instance.status, statusOf(instance))) return isOn;
  const isWritten = await store.transaction(async (tx) => {
    const current = await lockInstance(tx, id);
    if (current && !isSame(current, instance)) return false;
    if (current && !current.operationId) await writeStatus(tx, current, statusOf(current), null);
    return true;
  });
  return isWritten ? isOn : look(services, id);
}

/** Whether nobody wrote the row since it was read: what was observed belongs to that row, and another is looked at anew. */
function isSame(one: Instance, other: Instance): boolean {
  return one.updatedAt === other.updatedAt && one.generation === other.generation;
}
