import type { Instance, InstanceStatus } from "@berth/api";
import {
  decideInstance,
  type InstanceStepName,
  type InstanceWish,
  type ObservedInstance,
} from "../core/decide-instance.ts";
import { observedStatus, type SeenState, seenState } from "../core/instance-status.ts";
import type { Claimed, Decision, Journal, Json, Outcome, Step, Workflow } from "../operations/workflow.ts";
import { appendEvent } from "../store/events.ts";
import { deleteUnusedImports } from "../store/images.ts";
import { deleteInstance, readInstance, updateInstance } from "../store/instances.ts";
import { deleteSnapshot, readSnapshot } from "../store/snapshots.ts";
import type { Transaction } from "../store/store.ts";
import { changeWorkflow } from "./change-instance.ts";
import { InstanceInput, imageWanted } from "./instance-input.ts";
import { instanceEvent, writeStatus } from "./instance-record.ts";
import { leftBehind } from "./left-behind.ts";
import { observeInstance } from "./observe-instance.ts";
import type { Services } from "./services.ts";
import { snapshotEvent } from "./snapshot-record.ts";
import { admitInstance } from "./steps/admit-instance.ts";
import { awaitReady } from "./steps/await-ready.ts";
import { collectLayers } from "./steps/collect-layers.ts";
import { createDisks } from "./steps/create-disks.ts";
import { createMachine } from "./steps/create-machine.ts";
import { deleteDisks } from "./steps/delete-disks.ts";
import { destroyMachine } from "./steps/destroy-machine.ts";
import { dropMemory } from "./steps/drop-memory.ts";
import { forgetSnapshots } from "./steps/forget-snapshots.ts";
import { giveBackPorts } from "./steps/give-back-ports.ts";
import { planDisks } from "./steps/plan-disks.ts";
import { powerOff } from "./steps/power-off.ts";
import { prepareRebuild } from "./steps/prepare-rebuild.ts";
import { prepareRestore } from "./steps/prepare-restore.ts";
import { realiseImage } from "./steps/realise-image.ts";
import { replaceDisks } from "./steps/replace-disks.ts";
import { replaceRoot } from "./steps/replace-root.ts";
import { askForTemplate } from "./steps/request-template.ts";
import { reservePorts } from "./steps/reserve-ports.ts";
import { startMachine } from "./steps/start-machine.ts";
import { stopGuest } from "./steps/stop-guest.ts";
import { suspendMachine } from "./steps/suspend-machine.ts";
import { takeOver } from "./steps/take-over.ts";
import { unpackDisks } from "./steps/unpack-disks.ts";
import { verifyArchiveStep } from "./steps/verify-archive.ts";

type Verb = "create" | "import" | "start" | "stop" | "suspend" | "restart" | "delete" | "restore" | "rebuild";
type NamedStep = Step & { readonly name: InstanceStepName };

/** What a workflow looks at: the instance's row, or its absence, and the world. */
interface Seen {
  readonly instance: Instance | undefined;
  readonly observed: ObservedInstance | undefined;
  /** The operations that make what it waits for, while they do. */
  readonly makers: { readonly image: string | null; readonly template: string | null };
}

/** The operations of an instance. All but `change` differ in what they wish for and in what a failure takes back; the loop is one. */
export function instanceWorkflows(services: Services): readonly Workflow[] {
  const off = [dropMemory(services), stopGuest(services), powerOff(services)];
  const prepare = [realiseImage(services), createMachine(services)];
  const begin = [startMachine(services), awaitReady(services)];
  const on = [askForTemplate(services), ...begin];
  // Only what makes an instance takes back the machine it made; for the others it is older than the operation.
  const start = [...prepare.map(withoutUndo), ...on];
  // What was reserved goes with the row.
  const reserve = withoutUndo(reservePorts(services));
  const ports = giveBackPorts(services);
  return [
    workflow(services, "create", [
      ...[takeOver(services), planDisks(services), createDisks(services)],
      ...[reserve, ...prepare, ...on],
    ]),
    workflow(services, "import", [
      ...admission(services),
      ...[unpackDisks(services), reserve, createMachine(services), ...begin],
    ]),
    workflow(services, "start", [dropMemory(services), ...start, ports]),
    workflow(services, "stop", [...off, ports]),
    workflow(services, "suspend", [suspendMachine(services), ports]),
    workflow(services, "restart", [...off, ...start]),
    workflow(services, "delete", [
      ...[powerOff(services), destroyMachine(services), deleteDisks(services), ports],
      ...[forgetSnapshots(services), collectLayers(services)],
    ]),
    workflow(services, "restore", [
      ...[...off, prepareRestore(services), replaceDisks(services)],
      // What is started again ran before, and so has no template to wait for.
      ...[...prepare.map(withoutUndo), ...begin, ports, collectLayers(services)],
    ]),
    workflow(services, "rebuild", [
      ...[...off, prepareRebuild(services), replaceRoot(services)],
      ...[...prepare.map(withoutUndo), ...begin, ports, collectLayers(services)],
    ]),
    changeWorkflow(services),
  ];
}

function withoutUndo(step: NamedStep): NamedStep {
  const { undo: _, ...rest } = step;
  return rest;
}

/** What comes before there is an instance: only an archive that was verified becomes one. */
function admission(services: Services): readonly Step[] {
  return [verifyArchiveStep(services), admitInstance(services)];
}

function workflow(services: Services, verb: Verb, steps: readonly Step[]): Workflow<Seen> {
  return {
    type: `instance.${verb}`,
    steps,
    inspect: (operation) => inspect(services, operation),
    decide: ({ operation, observed, journal, now }) => decide(verb, operation, observed, journal, now),
    settle: (tx, operation, outcome) => settle(tx, verb, operation, outcome),
  };
}

async function inspect(services: Services, operation: Claimed): Promise<Seen> {
  const instance = await readInstance(services.store.queries, operation.target.id);
  if (!instance) return { instance, observed: undefined, makers: { image: null, template: null } };
  const wanted = { ...instance, imageId: imageWanted(operation, instance) };
  return { instance, ...(await observeInstance(services, wanted)) };
}

function wishOf(verb: Verb, operation: Claimed): InstanceWish {
  const { force, power, restartGeneration, cold, snapshots } = InstanceInput.parse(operation.input);
  return {
    present: verb !== "delete",
    power,
    isNew: isNew(verb),
    restartGeneration,
    force,
    cold,
    replaceDisks: verb === "restore" || verb === "rebuild" ? verb : null,
    after: afterwards(verb, snapshots),
  };
}

function isNew(verb: Verb): boolean {
  return verb === "create" || verb === "import";
}

function afterwards(verb: Verb, snapshots: boolean): readonly InstanceStepName[] {
  if (verb === "delete") return snapshots ? ["forget-snapshots", "collect-layers"] : ["collect-layers"];
  return verb === "restore" || verb === "rebuild" ? ["collect-layers"] : [];
}

function decide(verb: Verb, operation: Claimed, seen: Seen, journal: Journal, now: number): Decision {
  const { instance, observed } = seen;
  if (!instance || !observed) return verb === "import" ? decideAdmission(journal) : { done: true };
  const finished = new Set<InstanceStepName>();
  for (const [name, entry] of journal) if (entry.status === "succeeded") finished.add(name as InstanceStepName);
  // What an earlier daemon heard of the guest died with it: it is listened to anew, unless its time has passed.
  if (!observed.heard && journal.get("await-ready")?.result !== "in vain") finished.delete("await-ready");
  const decision = decideInstance(wishOf(verb, operation), observed, finished);
  if ("wait" in decision) {
    const operationId = seen.makers[decision.for];
    return { waitUntil: now + 60_000, reason: decision.wait, ...(operationId ? { operationId } : {}) };
  }
  const result = seenState(observed) as unknown as Json;
  if ("done" in decision) return { done: true, result };
  return "fail" in decision ? { ...decision, result } : decision;
}

function decideAdmission(journal: Journal): Decision {
  const next = ["verify-archive", "admit-instance"].find((name) => journal.get(name)?.status !== "succeeded");
  return next ? { run: next } : { done: true };
}

/** Writes how it ended into the row, or removes the row when nothing of the instance is left. One that could not be taken back wholly stays, to be deleted. */
async function settle(tx: Transaction, verb: Verb, operation: Claimed, outcome: Outcome): Promise<void> {
  const instance = await readInstance(tx, operation.target.id);
  if (!instance) return;
  const isTakenBack = isNew(verb) && outcome.status !== "succeeded" && !outcome.kept && !leftBehind(outcome);
  const gone = outcome.status === "succeeded" ? verb === "delete" : isTakenBack;
  if (gone) {
    await deleteInstance(tx, instance.id);
    await deleteUnusedImports(tx, instance.imageId);
    appendEvent(tx, instanceEvent(instance, "instance.deleted", operation.id));
    return;
  }
  if (outcome.status !== "succeeded") await forgetUnkept(tx, operation, outcome.error.message);
  // One that was cancelled while it waited its turn did nothing: the holder tells how things are.
  if (instance.operationId !== operation.id) return;
  const power = settledWish(verb, instance, outcome);
  if (power !== instance.spec.power) await updateInstance(tx, instance.id, { spec: { ...instance.spec, power } });
  await writeStatus(tx, instance, settledStatus(verb, operation, instance, outcome), operation.id);
}

/** What should have kept the disks of before is none when they were never replaced. */
async function forgetUnkept(tx: Transaction, operation: Claimed, reason: string): Promise<void> {
  const { restore, rebuild } = InstanceInput.parse(operation.input);
  const keptId = (restore ?? rebuild)?.keptId;
  const kept = keptId ? await readSnapshot(tx, keptId) : undefined;
  if (kept?.state !== "creating") return;
  await deleteSnapshot(tx, kept.id);
  appendEvent(tx, snapshotEvent(kept, "snapshot.failed", operation.id, { instanceId: kept.instanceId, reason }));
}

/** What is wished for from now on: nobody waits any more for a sleep that was not to be, or for the end of one that goes on. */
function settledWish(verb: Verb, { spec, status }: Instance, outcome: Outcome): Instance["spec"]["power"] {
  const failed = outcome.status !== "succeeded";
  // What is left of it is not to run.
  if (isNew(verb) && leftBehind(outcome)) return "stopped";
  if (verb !== "suspend") {
    if (failed && isAsleep(status)) return "suspended";
    // A start that was taken back is no longer wished for; one that goes on from memory runs on.
    const takenBack = verb === "start" && outcome.status === "cancelled" && status.start?.mode !== "resumed";
    return takenBack && spec.power === "running" ? "stopped" : spec.power;
  }
  return failed || (outcome.result as unknown as SeenState).power === "running" ? "running" : spec.power;
}

/** Whether it still has the memory it had before the operation. */
function isAsleep({ memoryBytes }: InstanceStatus): boolean {
  return memoryBytes !== null;
}

function settledStatus(verb: Verb, operation: Claimed, instance: Instance, outcome: Outcome): InstanceStatus {
  const now = new Date().toISOString();
  const status = { ...instance.status, observedAt: now };
  if (outcome.status === "succeeded") {
    const { power, restartGeneration } = InstanceInput.parse(operation.input);
    const settled = observedStatus(status, outcome.result as unknown as SeenState, power, now);
    // A daemon that was killed right after the start could not note what it was for.
    const started = settled.phase === "running" ? restartGeneration : null;
    return { ...settled, restartGeneration: settled.restartGeneration ?? started };
  }
  // It runs on, unless the controller sees otherwise at once; so does one whose new image never came.
  if (verb === "suspend" || (verb === "rebuild" && status.phase !== "provisioning")) return status;
  const off = { ...status, ready: false, health: "unknown" as const };
  if (verb !== "delete" && isAsleep(status)) {
    const failed = verb === "start" && outcome.status === "failed";
    return { ...off, phase: "suspended", reason: failed ? outcome.error.message : "" };
  }
  const left = isNew(verb) ? leftBehind(outcome) : undefined;
  if (left) return { ...off, phase: "failed", reason: left };
  if (outcome.status === "cancelled") {
    // A cancelled start was undone; after any other the controller looks at once how things stand.
    return verb === "start" && status.start?.mode !== "resumed"
      ? { ...off, phase: "stopped", reason: "" }
      : { ...off, phase: "unknown", reason: "just cancelled" };
  }
  // What could not be deleted, or put back, is as it was: the controller looks at once.
  const asBefore = verb === "delete" || ((verb === "restore" || verb === "rebuild") && !outcome.kept);
  if (asBefore) return { ...off, phase: "unknown", reason: outcome.error.message };
  const exit = (outcome.result as SeenState | null)?.exit;
  return { ...off, phase: "failed", reason: outcome.error.message, exitCode: exit?.code ?? off.exitCode };
}
