import { decidePoolMember, type ObservedPoolMember, type PoolMemberStepName } from "../core/decide-pool-member.ts";
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
import { deletePool, deletePoolMember, movePoolMember, readPool, readPoolMember, updatePool } from "../store/pools.ts";
import type { Transaction } from "../store/store.ts";
import { finishedSteps, observeMachine } from "./blank-machine.ts";
import { leftBehind } from "./left-behind.ts";
import { observeTemplateOf } from "./observe-template.ts";
import { poolEvent } from "./pool-event.ts";
import type { Services } from "./services.ts";
import { awaitPrepared } from "./steps/await-prepared.ts";
import { createBlankDisks } from "./steps/create-blank-disks.ts";
import { createBlankMachine } from "./steps/create-blank-machine.ts";
import { deleteBlankDisks } from "./steps/delete-blank-disks.ts";
import { destroyBlankMachine } from "./steps/destroy-blank-machine.ts";
import { pauseMachine } from "./steps/pause-machine.ts";
import { removeMembers } from "./steps/remove-members.ts";
import { requestMemberTemplate } from "./steps/request-member-template.ts";
import { startMember } from "./steps/start-member.ts";

interface Seen {
  readonly observed: ObservedPoolMember;
  readonly heard: boolean;
  /** The operation that makes its template, while it does. */
  readonly templateOperationId: string | null;
}

/** The operations of a pool: a machine is made for it, or removed from it, and the whole is deleted. */
export function poolWorkflows(services: Services): readonly Workflow<Seen | undefined>[] {
  const create: readonly (Step & { readonly name: PoolMemberStepName })[] = [
    requestMemberTemplate(services),
    createBlankDisks(services),
    createBlankMachine(services),
    startMember(services),
    awaitPrepared(services),
    pauseMachine(services),
  ];
  const remove = [destroyBlankMachine(services), deleteBlankDisks(services)];
  const empty = [removeMembers(services)];
  return [
    {
      type: "pool-member.create",
      steps: create,
      inspect: (operation) => inspect(services, operation),
      decide: ({ observed, journal, now }) => decide(observed, journal, now),
      settle: settleMember,
    },
    {
      type: "pool-member.delete",
      steps: remove,
      inspect: async () => undefined,
      decide: ({ journal }) => inOrder(remove, journal),
      settle: settleRemoval,
    },
    {
      type: "pool.delete",
      steps: empty,
      inspect: async () => undefined,
      decide: ({ journal }) => inOrder(empty, journal),
      settle: settleDelete,
    },
  ];
}

async function inspect(services: Services, operation: Claimed): Promise<Seen | undefined> {
  const member = await readPoolMember(services.store.queries, operation.target.id);
  if (!member) return undefined;
  const { project, location } = member;
  const { heard, ...machine } = await observeMachine(services, member);
  const template = await observeTemplateOf(services, { project, location, shape: member });
  return { heard, observed: { ...machine, template: template.state }, templateOperationId: template.operationId };
}

function decide(seen: Seen | undefined, journal: Journal, now: number): Decision {
  if (!seen) return { done: true };
  const decision = decidePoolMember(seen.observed, finishedSteps(seen.heard, journal));
  if (!("wait" in decision)) return decision;
  const operationId = seen.templateOperationId;
  return { waitUntil: now + 60_000, reason: decision.wait, ...(operationId ? { operationId } : {}) };
}

/**
 * A machine that was made waits from now on; one that could not be made is forgotten, and its pool says why. What could not all be taken back stays as one that waits,
 * until it is seen that it does not: then it is removed.
 */
async function settleMember(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const member = await readPoolMember(tx, operation.target.id);
  const pool = member && (await readPool(tx, member.poolId));
  if (!pool) return;
  if (outcome.status === "succeeded") {
    await movePoolMember(tx, member.id, "making", "ready");
    await updatePool(tx, pool.id, { failures: 0, reason: "" });
    return appendEvent(tx, poolEvent(pool, "pool.filled", operation.id, { machine: member.id }));
  }
  if (leftBehind(outcome)) await movePoolMember(tx, member.id, "making", "ready");
  else await deletePoolMember(tx, member.id);
  if (outcome.status === "cancelled") return;
  const reason = outcome.error.message;
  await updatePool(tx, pool.id, { failures: pool.failures + 1, reason });
  appendEvent(tx, poolEvent(pool, "pool.failed", operation.id, { reason }));
}

/** A machine that could not be removed is to be removed still. */
async function settleRemoval(tx: Transaction, { target }: Claimed, { status }: Outcome): Promise<void> {
  if (status === "succeeded") await deletePoolMember(tx, target.id);
  else await movePoolMember(tx, target.id, "leaving", "ready");
}

async function settleDelete(tx: Transaction, operation: Claimed, outcome: Outcome): Promise<void> {
  const pool = await readPool(tx, operation.target.id);
  if (!pool || outcome.status !== "succeeded") return;
  await deletePool(tx, pool.id);
  appendEvent(tx, poolEvent(pool, "pool.deleted", operation.id));
}
