import { BerthError, type Event, type Instance, instancePhases, type SnapshotSchedule } from "@berth/api";
import { isSame } from "../core/is-same.ts";
import { afterTurn, decideTurn, expiredSnapshots } from "../core/snapshot-schedule.ts";
import { followEvents, lastEventSeq } from "../store/events.ts";
import { listInstanceIds, lockInstance, readInstance, updateInstance } from "../store/instances.ts";
import { listSnapshotsOf, readSnapshot } from "../store/snapshots.ts";
import { hasNothingNew } from "../workflows/nothing-new.ts";
import { openSnapshot, openSnapshotWork } from "../workflows/open-snapshot.ts";
import type { Services } from "../workflows/services.ts";
import type { ControllerLog } from "./controller.ts";
import { Looks } from "./looks.ts";

/** Who asks for the snapshots that this controller opens and deletes. */
const requestedBy = "controller:snapshots";
const looksAtOnce = 4;
/** A timer counts no further than this, in milliseconds: the node's clock may be set meanwhile. */
const longestTimerMs = 60_000;

/**
 * Takes snapshots by the instances' schedules and deletes those that need not stay. It opens operations `snapshot.create` and `snapshot.delete`; how a turn went is written
 * into the instance's status by the former, so another daemon goes on where this one ended.
 */
export async function scheduleSnapshots(services: Services, log: ControllerLog, signal: AbortSignal): Promise<void> {
  const { store, nodeId } = services;
  const timers = new Map<string, NodeJS.Timeout>();
  const looks = new Looks(
    looksAtOnce,
    async (id) => {
      clearTimeout(timers.get(id));
      timers.delete(id);
      const nextInMs = signal.aborted ? undefined : await consider(services, id);
      if (nextInMs === undefined || signal.aborted) return;
      const timer = setTimeout(() => void looks.ask(id), Math.min(nextInMs, longestTimerMs));
      timers.set(id, timer);
    },
    (id, error) => {
      if (signal.aborted) return;
      log.error({ instance: id, err: error }, "an instance's schedule of snapshots could not be followed");
      timers.set(
        id,
        setTimeout(() => void looks.ask(id), longestTimerMs),
      );
    },
  );
  const after = await lastEventSeq(store.queries);
  try {
    for (const id of await listInstanceIds(store.queries, { nodeId, phases: instancePhases })) void looks.ask(id);
    for await (const event of followEvents(store, { after }, signal)) {
      const id = instanceOf(event);
      if (id) void looks.ask(id);
    }
  } finally {
    await looks.idle();
    for (const timer of timers.values()) clearTimeout(timer);
  }
}

/** The instance that something may be due for, by an event. */
function instanceOf({ type, subject, data }: Event): string | undefined {
  if (subject.kind === "instance") return subject.id;
  if (subject.kind === "snapshot") return typeof data.instanceId === "string" ? data.instanceId : undefined;
  const target = /^operation\.(succeeded|failed|cancelled)$/.test(type) ? data.target : undefined;
  const isInstance = typeof target === "object" && target !== null && "kind" in target && target.kind === "instance";
  return isInstance && "id" in target ? String(target.id) : undefined;
}

/** Does what is due for one instance; answers in how many milliseconds something may be, undefined when only an event can change that. */
async function consider(services: Services, id: string): Promise<number | undefined> {
  const { store } = services;
  const instance = await readInstance(store.queries, id);
  const schedule = instance?.spec.snapshots;
  if (instance && instance.nodeId !== services.nodeId) return undefined;
  if (!instance || !schedule) {
    if (instance?.status.snapshots) await note(services, instance, null);
    return undefined;
  }
  await deleteExpired(services, instance, schedule);
  const now = await store.now();
  const decision = decideTurn(schedule, instance.status.snapshots, now);
  if (!decision.due) {
    if (!isSame(decision.status, instance.status.snapshots)) await note(services, instance, decision.status);
    return decision.nextInMs;
  }
  // Whoever holds it lets it go some time.
  if (instance.operationId) return longestTimerMs;
  const { phase } = instance.status;
  const isOff = phase === "stopped" || phase === "failed";
  // Of one that is suspended half of what it knows is in its memory: its turn is when it wakes.
  if (!isOff && phase !== "running") return undefined;
  if (isOff && (await hasNothingNew(services, instance))) {
    await note(services, instance, afterTurn(schedule, now));
    return 0;
  }
  await take(services, instance);
  return longestTimerMs;
}

/** Writes down how a schedule stands, unless that is another by now; then it is looked at again by an event. */
async function note({ store }: Services, seen: Instance, snapshots: Instance["status"]["snapshots"]): Promise<void> {
  await store.transaction(async (tx) => {
    const current = await lockInstance(tx, seen.id);
    if (!current || !isSame(current.status.snapshots, seen.status.snapshots)) return;
    if (!isSame(current.spec.snapshots, seen.spec.snapshots)) return;
    await updateInstance(tx, seen.id, { status: { ...current.status, snapshots } });
  });
}

async function take({ store }: Services, seen: Instance): Promise<void> {
  await unlessBusy(
    store.transaction(async (tx) => {
      const instance = await readInstance(tx, seen.id);
      if (!instance?.spec.snapshots || instance.operationId) return;
      // One that cannot be frozen is better kept as after a power cut than not at all; it says so.
      await openSnapshot(tx, instance, { kind: "disk", automatic: true, crashConsistent: true, requestedBy });
    }),
  );
}

async function deleteExpired({ store }: Services, { id }: Instance, { keep }: SnapshotSchedule): Promise<void> {
  const all = await listSnapshotsOf(store.queries, id);
  // What is damaged is no snapshot that another could go for; it stays for somebody to look at.
  const automatic = all.filter(
    ({ automatic, state, verification }) => automatic && state === "ready" && verification.verdict !== "damaged",
  );
  const taken = automatic.map((snapshot) => ({ id: snapshot.id, takenAt: Date.parse(snapshot.createdAt) }));
  for (const expired of expiredSnapshots(taken, keep)) {
    await unlessBusy(
      store.transaction(async (tx) => {
        const snapshot = await readSnapshot(tx, expired);
        if (!snapshot || snapshot.operationId) return;
        await openSnapshotWork(tx, snapshot, { verb: "delete", first: false, requestedBy });
      }),
    );
  }
}

/** Somebody else is at it: there is another look later. */
async function unlessBusy(work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof BerthError && error.code === "busy")) throw error;
  }
}
