import type { Instance } from "@berth/api";
import { endChange, fieldsAsked, wishesOf, withWishes } from "../core/change-instance.ts";
import { decideChange, type ObservedChange } from "../core/decide-change.ts";
import { keepsPorts } from "../core/published-ports.ts";
import type { Claimed, Outcome, Workflow } from "../operations/workflow.ts";
import { appendEvent } from "../store/events.ts";
import { findInstance, readInstance, readOpenChanges, updateInstance } from "../store/instances.ts";
import type { Transaction } from "../store/store.ts";
import { instanceEvent } from "./instance-record.ts";
import type { Services } from "./services.ts";
import { reservePorts } from "./steps/reserve-ports.ts";

/** Makes true, as far as it can be while the instance runs or rests, what was wished for when the operation was asked for. */
export function changeWorkflow(services: Services): Workflow<ObservedChange | undefined> {
  return {
    type: "instance.change",
    steps: [reservePorts(services)],
    inspect: async (operation) => {
      const instance = await readInstance(services.store.queries, operation.target.id);
      return instance && observe(instance);
    },
    decide: ({ observed }) => (observed ? decideChange(observed) : { done: true }),
    settle,
  };
}

function observe({ spec, status }: Instance): ObservedChange {
  return { portsReserved: keepsPorts(spec.ports, status.ports) };
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
