import { BerthError, type Instance } from "@berth/api";
import type { StepContext } from "../operations/workflow.ts";
import { describeSwitch, type InstanceSwitch } from "./disk-switch.ts";
import { InstanceInput } from "./instance-input.ts";
import type { Services } from "./services.ts";
import { requireSnapshot, type StoredSnapshot } from "./snapshot-record.ts";
import { targetInstance } from "./steps/step.ts";

/** What a restore works with. */
export interface RestoreParts extends InstanceSwitch {
  readonly instance: Instance;
  /** What its disks are to be. */
  readonly source: StoredSnapshot;
  /** Whether it goes on from the snapshot's memory. */
  readonly withMemory: boolean;
  /** Where its present disks are kept; undefined when they go. */
  readonly kept: StoredSnapshot | undefined;
}

/** Reads all that an operation says about its restore. Rejects with `not_found` when a snapshot is gone. */
export async function restoreParts(services: Services, context: StepContext): Promise<RestoreParts> {
  const instance = await targetInstance(services, context);
  const { restore } = InstanceInput.parse(context.operation.input);
  if (!restore) throw new BerthError("internal", "The operation does not say what to restore.");
  const source = await requireSnapshot(services, restore.snapshotId);
  const kept = restore.keptId === null ? undefined : await requireSnapshot(services, restore.keptId);
  const standOn = { folder: source.folder, disks: source.snapshot.spec.disks.map(({ name }) => name) };
  const request = { keepIn: kept?.folder ?? null, standOn, tag: context.operation.id };
  const withMemory = restore.memory && source.snapshot.kind === "memory";
  return { instance, source, withMemory, kept, ...(await describeSwitch(services, instance, request)) };
}
