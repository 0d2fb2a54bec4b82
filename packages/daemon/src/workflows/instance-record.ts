import type { Instance, InstanceStatus } from "@berth/api";
import { changeEvent, statusChanged } from "../core/instance-status.ts";
import { appendEvent, type NewEvent } from "../store/events.ts";
import { updateInstance } from "../store/instances.ts";
import type { Transaction } from "../store/store.ts";

/** The event that tells of an instance. */
export function instanceEvent(
  instance: Pick<Instance, "id" | "name" | "project">,
  type: string,
  operationId: string | null,
  data: NewEvent["data"] = {},
): NewEvent {
  const subject = { kind: "instance", id: instance.id, name: instance.name };
  return { type, project: instance.project, subject, operationId, data };
}

/** Writes a newer status, and the event that tells of its change when there is one to tell. */
export async function writeStatus(
  tx: Transaction,
  instance: Instance,
  status: InstanceStatus,
  operationId: string | null,
): Promise<void> {
  if (!statusChanged(instance.status, status)) return;
  await updateInstance(tx, instance.id, { status });
  const event = changeEvent(instance.status, status);
  if (!event) return;
  const { phase, reason, exitCode } = status;
  appendEvent(tx, instanceEvent(instance, event, operationId, { phase, reason, exitCode }));
}
