import { BerthError, type ForkChange, type ForkInstance, type Instance, Labels } from "@berth/api";
import { checkSharedPorts, childName, specOfChild } from "../core/fork.ts";
import { newId } from "../core/ids.ts";
import { runOf } from "../core/instance-run.ts";
import { checkCapacity, checkPorts, firstStatus } from "../core/new-instance.ts";
import { startOperation } from "../operations/start.ts";
import type { ChangeOptions, Scope } from "../server/services.ts";
import { newFolderName } from "../storage/snapshot-folders.ts";
import { appendEvent } from "../store/events.ts";
import { findInstance, insertInstance, readRun } from "../store/instances.ts";
import { resourceOf } from "../store/operations.ts";
import { holdToQuota, instanceQuotas } from "../store/quotas.ts";
import type { Transaction } from "../store/store.ts";
import type { ForkInput } from "../workflows/fork-record.ts";
import { instanceEvent } from "../workflows/instance-record.ts";
import { checkAutosuspend, requireMemory } from "./autosuspend.ts";
import type { InstanceRequestContext } from "./instances.ts";

/** Writes down the children of an instance that runs, and the operation that makes all of them. */
export async function requestFork(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  parent: Instance,
  { asked, queue }: { readonly asked: ForkInstance } & Pick<ChangeOptions, "queue">,
): Promise<ForkChange> {
  requireForkable(context, parent);
  checkSharedPorts(asked);
  const run = (await readRun(tx, parent.id)) ?? runOf(parent);
  const spec = specOfChild(parent.spec, run, asked.ports);
  checkPorts(spec.ports);
  checkCapacity(spec, context.capacity);
  checkAutosuspend(context, parent.location, spec);
  const labels = childLabels(parent, asked);
  const children: ForkInput["children"] = [];
  for (const name of await childNames(tx, parent, asked)) children.push({ id: newId("instance"), name });
  const folder = newFolderName();
  const operation = await startOperation(tx, {
    type: "instance.fork",
    project: scope.project,
    target: { kind: "instance", id: parent.id, name: parent.name },
    claims: [parent, ...children].map(({ id }) => resourceOf("instance", id)),
    input: { folder, memoryMib: spec.memoryMib, children } satisfies ForkInput,
    nodeId: parent.nodeId,
    requestedBy: scope.caller.id,
    queue,
  });
  const { project, imageId, image, location, nodeId } = parent;
  const ancestor = { id: parent.id, name: parent.name };
  const inserted: Instance[] = [];
  for (const [index, { id, name }] of children.entries()) {
    const child = await insertInstance(tx, {
      ...{ id, project, name, labels, imageId, image, location, nodeId, spec },
      origin: { kind: "fork", instance: ancestor, index },
      layers: folder,
      memory: { folder, used: false, origin: { kind: "fork", parent: ancestor, index } },
      status: firstStatus(new Date().toISOString()),
    });
    appendEvent(tx, instanceEvent(child, "instance.created", operation.id, { image, parentId: parent.id }));
    inserted.push({ ...child, operationId: operation.id });
  }
  await holdToQuota(tx, project, instanceQuotas);
  return { instance: parent, operation, children: inserted };
}

function requireForkable({ drivers }: InstanceRequestContext, { name, location, status }: Instance): void {
  requireMemory(drivers.get(location), location);
  if (status.phase !== "running" && status.phase !== "starting")
    throw new BerthError("instance_not_running", `${name} is ${status.phase}: only what runs is forked.`);
}

function childLabels(parent: Instance, asked: ForkInstance): Instance["labels"] {
  const labels = Labels.safeParse({ ...parent.labels, ...asked.labels });
  if (!labels.success)
    throw new BerthError("invalid_request", "body.labels: with the parent's there are more than 64 labels.");
  return labels.data;
}

/** The only child has the name that was asked for; otherwise the first free numbers are taken. */
async function childNames(tx: Transaction, parent: Instance, { count, name }: ForkInstance): Promise<string[]> {
  if (name !== undefined && count === 1) return [name];
  const names: string[] = [];
  for (let number = 1; names.length < count; number += 1) {
    const candidate = childName(name ?? parent.name, number);
    if (!(await findInstance(tx, parent.project, candidate))) names.push(candidate);
  }
  return names;
}
