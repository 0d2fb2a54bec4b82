import type { Instance, InstanceChange, InstancePhase } from "@berth/api";
import { noRestarts } from "../core/restart-policy.ts";
import { startOperation } from "../operations/start.ts";
import { lockInstance, updateInstance } from "../store/instances.ts";
import { resourceOf } from "../store/operations.ts";
import { listSnapshotsOf } from "../store/snapshots.ts";
import type { Transaction } from "../store/store.ts";
import type { InstanceInput, NewInstanceInput } from "./instance-input.ts";

/** What is asked of an instance that exists. */
export interface ChangeRequest {
  readonly verb: "start" | "stop" | "suspend" | "restart" | "delete";
  readonly force: boolean;
  /** A start: boots a suspended one from its disks. */
  readonly cold?: boolean;
  /** A suspend: only while nobody has a connection to it. */
  readonly onlyIdle?: boolean;
  /** A delete: whether the instance's snapshots go too. */
  readonly snapshots?: boolean;
  /** Waits for who holds the instance instead of being refused. */
  readonly queue?: boolean;
  /** The token or controller that asks. */
  readonly requestedBy: string;
}

const powerOf = {
  start: "running",
  restart: "running",
  stop: "stopped",
  delete: "stopped",
  suspend: "suspended",
} as const satisfies Record<ChangeRequest["verb"], InstanceInput["power"]>;

/** While it is being suspended a machine runs on until the last moment. */
const phaseOf: Readonly<Partial<Record<ChangeRequest["verb"], InstancePhase>>> = {
  start: "starting",
  restart: "starting",
  stop: "stopping",
  delete: "deleting",
};

/** Who goes before whom: a delete before a forced stop, both before anything else. */
function rankOf({ verb, force }: ChangeRequest): number {
  if (verb === "delete") return force ? 2 : 0;
  return force ? 1 : 0;
}

/** Writes down what is wished of an instance from now on and starts the operation that makes it so. Rejects with BerthError `busy`. */
export async function openChange(tx: Transaction, instance: Instance, asked: ChangeRequest): Promise<InstanceChange> {
  const { verb, force, cold, onlyIdle, snapshots, queue = false, requestedBy } = asked;
  const power = powerOf[verb];
  const restartGeneration = instance.spec.restartGeneration + (verb === "restart" ? 1 : 0);
  const removed = snapshots ? await listSnapshotsOf(tx, instance.id) : [];
  const operation = await startOperation(tx, {
    type: `instance.${verb}`,
    project: instance.project,
    target: { kind: "instance", id: instance.id, name: instance.name },
    claims: [resourceOf("instance", instance.id), ...removed.map(({ id }) => resourceOf("snapshot", id))],
    input: {
      force,
      power,
      restartGeneration,
      ...(cold ? { cold } : {}),
      ...(onlyIdle ? { onlyIdle } : {}),
      ...(snapshots ? { snapshots } : {}),
    } satisfies NewInstanceInput,
    nodeId: instance.nodeId,
    requestedBy,
    queue,
    rank: rankOf(asked),
  });
  const spec = { ...instance.spec, power, restartGeneration };
  const phase = phaseOf[verb];
  const before = (await lockInstance(tx, instance.id))?.status ?? instance.status;
  const off = { ready: false, health: "unknown" as const, restarts: noRestarts };
  const status = phase ? { ...before, ...off, phase } : before;
  return { instance: await updateInstance(tx, instance.id, { spec, status }), operation };
}
