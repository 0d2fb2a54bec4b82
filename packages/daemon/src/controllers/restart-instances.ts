import type { Instance } from "@berth/api";
import { z } from "zod";
import { decideRestart, returnsWithNode } from "../core/restart-policy.ts";
import { startOperation } from "../operations/start.ts";
import { appendEvent, followEvents, lastEventSeq } from "../store/events.ts";
import { listInstanceIds, lockInstance, readInstance, updateInstance } from "../store/instances.ts";
import { lockResources } from "../store/operation-claims.ts";
import { resourceOf } from "../store/operations.ts";
import { readSetting, writeSetting } from "../store/settings.ts";
import type { Transaction } from "../store/store.ts";
import type { NewInstanceInput } from "../workflows/instance-input.ts";
import { instanceEvent } from "../workflows/instance-record.ts";
import { findHandle, observeRun } from "../workflows/observe-instance.ts";
import type { Services } from "../workflows/services.ts";
import type { ControllerLog } from "./controller.ts";
import { Looks } from "./looks.ts";

/** Who asks for the starts that this controller opens. */
const requestedBy = "controller:restart-policy";
const looksAtOnce = 4;
/** A process has ended, but its machine is still going off, which no event tells: it is looked at again after this long, in milliseconds. */
const lookAgainMs = 200;
/** A timer counts no further than this, in milliseconds; what is due later is looked at again then. */
const longestTimerMs = 2 ** 31 - 1;

/** Which boot of the node this is, and when Berth first saw it. */
const Boot = z.object({ bootId: z.string(), seenAt: z.number() });

/**
 * Starts instances again by their restart policy: when they have ended, after a pause that doubles, and when the node has been restarted. It opens operations
 * `instance.start` and remembers in the status what it has done, so another daemon goes on where this one ended.
 */
export async function restartInstances(
  services: Services,
  nodeId: string,
  log: ControllerLog,
  signal: AbortSignal,
): Promise<void> {
  const { store } = services;
  const timers = new Map<string, NodeJS.Timeout>();
  const looks = new Looks(
    looksAtOnce,
    async (id) => {
      clearTimeout(timers.get(id));
      timers.delete(id);
      const dueInMs = signal.aborted ? undefined : await consider(services, id, nodeUpSince);
      if (dueInMs === undefined) return;
      timers.set(
        id,
        setTimeout(() => void looks.ask(id), Math.min(dueInMs, longestTimerMs)),
      );
    },
    (id, error) => log.error({ instance: id, err: error }, "an instance's restart policy could not be followed"),
  );
  const after = await lastEventSeq(store.queries);
  const nodeUpSince = await meetNode(services, nodeId);
  try {
    for (const id of await listInstanceIds(store.queries, { nodeId, phases: ["stopped", "failed"] }))
      void looks.ask(id);
    for await (const event of followEvents(store, { after }, signal)) {
      const id = endedInstance(event);
      if (id) void looks.ask(id);
    }
  } finally {
    await looks.idle();
    for (const timer of timers.values()) clearTimeout(timer);
  }
}

/** The instance that may have ended, or is to be treated otherwise from now on, by an event. */
function endedInstance(event: { type: string; subject: { id: string }; data: object }): string | undefined {
  if (/^instance\.(stopped|failed|changed)$/.test(event.type)) return event.subject.id;
  const target = "target" in event.data ? (event.data.target as { kind: string; id: string }) : undefined;
  return /^operation\.(succeeded|failed|cancelled)$/.test(event.type) && target?.kind === "instance"
    ? target.id
    : undefined;
}

/** Since when the node has been up, in milliseconds since the epoch. After its restart, the instances that return with it are started. */
async function meetNode(services: Services, nodeId: string): Promise<number> {
  const { store, host } = services;
  const { bootId } = await host.facts();
  const name = `boot of ${nodeId}`;
  const known = await readSetting(store.queries, name, Boot);
  if (known?.bootId === bootId) return known.seenAt;
  const seenAt = await store.now();
  const returning = known ? await listInstanceIds(store.queries, { nodeId, phases: ["stopped", "failed"] }) : [];
  for (const id of returning) {
    await store.transaction(async (tx) => {
      const instance = await lockToStart(tx, id);
      if (instance && !instance.operationId && returnsWithNode(instance.spec))
        await start(tx, instance, "the node was restarted");
    });
  }
  await writeSetting(store.queries, name, { bootId, seenAt });
  return seenAt;
}

/** Does what is due for one instance; answers in how many milliseconds something will be, undefined when nothing will. */
async function consider(services: Services, id: string, nodeUpSince: number): Promise<number | undefined> {
  const { store } = services;
  const instance = await readInstance(store.queries, id);
  if (!instance || instance.operationId || !["stopped", "failed"].includes(instance.status.phase)) return undefined;
  const { spec, status } = instance;
  if (spec.restart === "no" && status.restarts.nextAt === null) return undefined;
  const { power, exit } = await observeRun(services, instance, await findHandle(services, instance));
  if (power !== "stopped") return exit === null ? undefined : lookAgainMs;
  const now = await store.now();
  const exitCode = exit?.code ?? null;
  const startedAt = status.startedAt === null ? null : Date.parse(status.startedAt);
  const run = { policy: spec.restart, wished: spec.power, restarts: status.restarts, exitCode, startedAt, nodeUpSince };
  const decision = decideRestart(run, now);
  const isCurrent = await store.transaction(async (tx) => {
    const current = await lockToStart(tx, id);
    if (current && current.updatedAt !== instance.updatedAt) return false;
    if (!current || current.operationId) return true;
    if ("leave" in decision) {
      if (status.restarts.nextAt !== null) await note(tx, current, { ...status.restarts, nextAt: null });
    } else if (decision.startAt <= now) {
      await start(tx, current, reasonOf(current, exitCode));
    } else if (status.restarts.nextAt === null) {
      const nextAt = new Date(decision.startAt).toISOString();
      await note(tx, current, { ...status.restarts, delayMs: decision.delayMs, nextAt });
    }
    return true;
  });
  // Somebody else was first: it is looked at again at once.
  if (!isCurrent) return 0;
  return "leave" in decision || decision.startAt <= now ? undefined : decision.startAt - now;
}

async function lockToStart(tx: Transaction, id: string): Promise<Instance | undefined> {
  await lockResources(tx, [resourceOf("instance", id)]);
  return lockInstance(tx, id);
}

function reasonOf({ status }: Instance, exitCode: number | null): string {
  return status.reason || (exitCode === null ? "the machine went off" : `its process ended with exit code ${exitCode}`);
}

async function note(tx: Transaction, instance: Instance, restarts: Instance["status"]["restarts"]): Promise<void> {
  await updateInstance(tx, instance.id, { status: { ...instance.status, restarts } });
}

async function start(tx: Transaction, instance: Instance, reason: string): Promise<void> {
  const { id, name, project, nodeId, spec, status } = instance;
  const operation = await startOperation(tx, {
    type: "instance.start",
    project,
    target: { kind: "instance", id, name },
    claims: [resourceOf("instance", id)],
    input: { force: false, power: "running", restartGeneration: spec.restartGeneration } satisfies NewInstanceInput,
    nodeId,
    requestedBy,
  });
  const count = status.restarts.count + 1;
  const restarts = { ...status.restarts, count, nextAt: null };
  await updateInstance(tx, id, {
    status: { ...status, phase: "starting", restarts },
    ...(spec.power === "running" ? {} : { spec: { ...spec, power: "running" } }),
  });
  appendEvent(
    tx,
    instanceEvent(instance, "instance.restarting", operation.id, { reason, count, policy: spec.restart }),
  );
}
