import type { Instance, InstanceStatus } from "@berth/api";
import { failureOfChild, failureOfFork, type SeenChild } from "../core/decide-fork.ts";
import { observedStatus } from "../core/instance-status.ts";
import {
  type Claimed,
  type Decision,
  inOrder,
  type Journal,
  type Json,
  type Outcome,
  type Workflow,
} from "../operations/workflow.ts";
import { appendEvent } from "../store/events.ts";
import { deleteUnusedImports } from "../store/images.ts";
import { deleteInstance, readInstance, updateInstance } from "../store/instances.ts";
import type { Transaction } from "../store/store.ts";
import { ForkInput, forkMoment } from "./fork-record.ts";
import { instanceEvent, writeStatus } from "./instance-record.ts";
import { leftBehind } from "./left-behind.ts";
import type { Services } from "./services.ts";
import { awaitChildren } from "./steps/await-children.ts";
import { collectLayers } from "./steps/collect-layers.ts";
import { keepLayers } from "./steps/keep-layers.ts";
import { makeChildren } from "./steps/make-children.ts";
import { prepareLayers } from "./steps/prepare-layers.ts";
import { pausedMsOf, saveMemory } from "./steps/save-memory.ts";
import { startChildren } from "./steps/start-children.ts";

/** What a fork ends with. */
interface Result {
  readonly children: readonly SeenChild[];
  readonly pausedMs: number | null;
}

/**
 * Children of a running instance, all of one moment. They are made before it stands still, and go on right after. Its memory goes once all of them have begun; the frozen disks
 * stay for as long as anybody stands on them.
 */
export function forkWorkflow(services: Services): Workflow {
  const find = forkMoment(services);
  const steps = [
    prepareLayers(services, find),
    makeChildren(services),
    saveMemory(services, find),
    keepLayers(services, find),
    startChildren(services),
    collectLayers(services),
    awaitChildren(services),
  ];
  return {
    type: "instance.fork",
    steps,
    inspect: async () => undefined,
    decide: ({ journal }) => decide(inOrder(steps, journal), journal),
    settle,
  };
}

/** Children that have begun are kept whatever becomes of them, as an instance is that was launched. */
function decide(next: Decision, journal: Journal): Decision {
  if (!("done" in next)) return next;
  const children = journal.get("await-children")?.result as unknown as readonly SeenChild[];
  const result = { children, pausedMs: pausedMsOf(journal) } satisfies Result as unknown as Json;
  const failure = failureOfFork(children);
  return failure ? { fail: failure, keep: true, result } : { done: true, result };
}

/** Writes down how each child is, or removes all of them; those that could not be taken back stay, to be deleted. */
async function settle(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const { children } = ForkInput.parse(operation.input);
  const result = outcome.result as unknown as Result | null;
  const isMade = outcome.status === "succeeded" || outcome.kept;
  const left = leftBehind(outcome, ["make-children", "start-children"]);
  for (const [index, { id }] of children.entries()) {
    const child = await readInstance(tx, id);
    if (!child) continue;
    const seen = result?.children[index];
    if (isMade && seen) await writeStatus(tx, child, statusOf(child, seen), operation.id);
    else if (left) await leave(tx, child, left, operation.id);
    else await forget(tx, child, operation.id);
  }
  const parent = isMade && (await readInstance(tx, operation.target.id));
  if (!parent) return;
  const data = { children: children.map(({ id, name }) => ({ id, name })), pausedMs: result?.pausedMs ?? null };
  appendEvent(tx, instanceEvent(parent, "instance.forked", operation.id, data));
}

async function leave(tx: Transaction, child: Instance, reason: string, operationId: string): Promise<void> {
  await updateInstance(tx, child.id, { spec: { ...child.spec, power: "stopped" } });
  await writeStatus(tx, child, { ...child.status, phase: "failed", ready: false, reason }, operationId);
}

async function forget(tx: Transaction, child: Instance, operationId: string): Promise<void> {
  await deleteInstance(tx, child.id);
  await deleteUnusedImports(tx, child.imageId);
  appendEvent(tx, instanceEvent(child, "instance.deleted", operationId));
}

function statusOf({ status }: Instance, seen: SeenChild): InstanceStatus {
  const now = new Date().toISOString();
  const failure = failureOfChild(seen);
  const observed = observedStatus(status, seen, "running", now);
  if (!failure) return observed;
  return { ...observed, phase: "failed", ready: false, health: "unknown", reason: failure.message };
}
