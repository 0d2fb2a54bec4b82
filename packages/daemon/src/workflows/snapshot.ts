import { BerthError, type Snapshot } from "@berth/api";
import { afterFailure, afterTurn } from "../core/snapshot-schedule.ts";
import {
  type Claimed,
  type Decision,
  inOrder,
  type Journal,
  type Outcome,
  type Step,
  type Workflow,
} from "../operations/workflow.ts";
import { appendEvent } from "../store/events.ts";
import { lockInstance, updateInstance } from "../store/instances.ts";
import { deleteSnapshot, readSnapshot, updateSnapshot } from "../store/snapshots.ts";
import type { Transaction } from "../store/store.ts";
import type { Services } from "./services.ts";
import { snapshotEvent, snapshotMoment } from "./snapshot-record.ts";
import { collectLayers } from "./steps/collect-layers.ts";
import { forgetSnapshot } from "./steps/forget-snapshot.ts";
import { keepLayers } from "./steps/keep-layers.ts";
import { prepareLayers } from "./steps/prepare-layers.ts";
import { recordLayers } from "./steps/record-layers.ts";
import { saveMemory } from "./steps/save-memory.ts";
import { switchDisks } from "./steps/switch-disks.ts";
import { verifyLayers } from "./steps/verify-layers.ts";

/** The operations of a snapshot: plain lists of steps. */
export function snapshotWorkflows(services: Services): readonly Workflow[] {
  return [
    createWorkflow(services),
    listed("snapshot.delete", [forgetSnapshot(services), collectLayers(services)]),
    {
      ...listed("snapshot.verify", [verifyLayers(services)]),
      decide: ({ journal }) => decideVerify(journal),
      settle: settleVerify,
    },
  ];
}

/** The memory and the disks of a running machine are kept in one moment; without memory, the disks are. */
function createWorkflow(services: Services): Workflow<Snapshot["kind"]> {
  const find = snapshotMoment(services);
  const prepare = prepareLayers(services, find);
  const moment = { disk: switchDisks(services), memory: saveMemory(services, find) };
  const rest = [keepLayers(services, find), recordLayers(services), collectLayers(services)];
  return {
    type: "snapshot.create",
    steps: [prepare, moment.disk, moment.memory, ...rest],
    inspect: async ({ target }) => (await readSnapshot(services.store.queries, target.id))?.kind ?? "disk",
    decide: ({ observed, journal }) => inOrder([prepare, moment[observed], ...rest], journal),
    settle: settleCreate,
  };
}

function listed(type: string, steps: readonly Step[]): Workflow {
  return { type, steps, inspect: async () => undefined, decide: ({ journal }) => inOrder(steps, journal) };
}

/** The snapshot is ready, or there is none. */
async function settleCreate(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const snapshot = await readSnapshot(tx, operation.target.id);
  if (!snapshot) return;
  if (snapshot.automatic) await noteTurn(tx, snapshot, outcome);
  if (outcome.status === "succeeded") {
    await updateSnapshot(tx, snapshot.id, { state: "ready" });
    appendEvent(tx, snapshotEvent(snapshot, "snapshot.created", operation.id, { instanceId: snapshot.instanceId }));
    return;
  }
  await deleteSnapshot(tx, snapshot.id);
  const { instanceId } = snapshot;
  const data = { instanceId, reason: outcome.error.message };
  appendEvent(tx, snapshotEvent(snapshot, "snapshot.failed", operation.id, data));
}

/** The schedule goes on to its next turn, or tries this one again. */
async function noteTurn(tx: Transaction, { instanceId, createdAt }: Snapshot, outcome: Outcome): Promise<void> {
  const instance = await lockInstance(tx, instanceId);
  const schedule = instance?.spec.snapshots;
  if (!instance || !schedule) return;
  const { status } = instance;
  const takenAt = Date.parse(createdAt);
  const snapshots =
    outcome.status === "succeeded"
      ? afterTurn(schedule, takenAt)
      : afterFailure(status.snapshots ?? afterTurn(schedule, takenAt), outcome.error.message, Date.now());
  await updateInstance(tx, instanceId, { status: { ...status, snapshots } });
}

/** What is damaged fails the operation, so that whoever waits for it cannot take it for sound. */
function decideVerify(journal: Journal): Decision {
  const verified = journal.get("verify-layers");
  if (verified?.status !== "succeeded") return { run: "verify-layers" };
  if (typeof verified.result !== "string") return { done: true };
  return { fail: new BerthError("snapshot_damaged", verified.result), keep: true };
}

async function settleVerify(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const snapshot = await readSnapshot(tx, operation.target.id);
  const damage = outcome.status === "failed" && outcome.error.code === "snapshot_damaged" ? outcome.error.message : "";
  if (!snapshot || (outcome.status !== "succeeded" && !damage)) return;
  const verdict = damage ? "damaged" : "sound";
  await updateSnapshot(tx, snapshot.id, { verification: { verdict, reason: damage } });
  appendEvent(tx, snapshotEvent(snapshot, `snapshot.verified`, operation.id, { verdict, reason: damage }));
}
