import type { ChangeInstance, Instance, InstanceSpec, InstanceUpdate, QuotaName } from "@berth/api";
import { beginChange, effectsOf, liveFields, wishesOf, withWishes } from "../core/change-instance.ts";
import { checkCapacity, checkPorts } from "../core/new-instance.ts";
import { noRestarts } from "../core/restart-policy.ts";
import { startOperation } from "../operations/start.ts";
import type { ChangeOptions, Scope } from "../server/services.ts";
import { lockInstance, readOpenChanges, updateInstance } from "../store/instances.ts";
import { resourceOf } from "../store/operations.ts";
import { holdToQuota } from "../store/quotas.ts";
import type { Transaction } from "../store/store.ts";
import { checkAutosuspend } from "./autosuspend.ts";
import type { InstanceRequestContext } from "./instances.ts";

/**
 * Writes down what is wished for now and starts the operation that makes it so. Rejects with BerthError `not_enough_resources`, `port_taken`, `name_taken`,
 * `unsupported_by_driver`, `invalid_request` or `busy`.
 */
export async function requestUpdate(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  instance: Instance,
  asked: ChangeInstance,
  options: ChangeOptions,
): Promise<InstanceUpdate> {
  const operation = await startOperation(tx, {
    type: "instance.change",
    project: scope.project,
    target: { kind: "instance", id: instance.id, name: instance.name },
    claims: [resourceOf("instance", instance.id)],
    // What it changes stands in the instance's row, environment included.
    input: {},
    nodeId: instance.nodeId,
    requestedBy: scope.caller.id,
    queue: options.queue,
  });
  const before = wishesOf(instance);
  const open = await readOpenChanges(tx, instance.id);
  const { wishes, open: openChanges } = beginChange(before, open, { operationId: operation.id, asked });
  checkCapacity(wishes, context.capacity);
  checkPorts(wishes.ports);
  const driver = context.drivers.get(instance.location);
  const abilities = { publishes: driver?.publish !== undefined, growsDisks: driver?.growDisk !== undefined };
  const effects = effectsOf(before, wishes, liveFields(instance.status.phase, abilities, before, wishes));
  if (effects.some(({ field }) => field === "autosuspend" || field === "ports"))
    checkAutosuspend(context, instance.location, wishes);
  const written = effects.length > 0 ? withWishes(instance, wishes) : {};
  // Another policy counts anew.
  const { status } = (await lockInstance(tx, instance.id)) ?? instance;
  const counted = before.restart === wishes.restart ? {} : { status: { ...status, restarts: noRestarts } };
  const updated = await updateInstance(tx, instance.id, { ...written, ...counted, openChanges });
  await holdToQuota(tx, scope.project, grownOf(instance.spec, updated.spec));
  return { instance: updated, operation, effects };
}

/** What an instance takes more of than before. */
function grownOf(before: InstanceSpec, after: InstanceSpec): QuotaName[] {
  const size = ({ disks }: InstanceSpec) => disks.reduce((sum, { sizeMib }) => sum + sizeMib, 0);
  const grown: [QuotaName, boolean][] = [
    ["cpus", after.cpus > before.cpus],
    ["memoryMib", after.memoryMib > before.memoryMib],
    ["diskMib", size(after) > size(before)],
    ["ports", after.ports.length > before.ports.length],
  ];
  return grown.flatMap(([name, isMore]) => (isMore ? [name] : []));
}
