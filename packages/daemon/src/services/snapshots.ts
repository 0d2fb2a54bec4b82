import {
  BerthError,
  type CreateSnapshot,
  type ImageChange,
  type Instance,
  type InstanceChange,
  type LaunchSnapshot,
  type PromoteSnapshot,
  type RestoreChange,
  type RestoreSnapshot,
  type Snapshot,
  type SnapshotChange,
} from "@berth/api";
import { newId } from "../core/ids.ts";
import { beyondMemory, restoreMismatch, specFromSnapshot } from "../core/snapshot-spec.ts";
import { canonicalReference } from "../images/reference.ts";
import { startOperation } from "../operations/start.ts";
import type { ChangeOptions, Scope, Services } from "../server/services.ts";
import { readImage } from "../store/images.ts";
import { findInstance, lockInstance, readInstance, updateInstance } from "../store/instances.ts";
import { lockResources } from "../store/operation-claims.ts";
import { readOperation, resourceOf } from "../store/operations.ts";
import { findSnapshot, listSnapshots, readFolder, readSnapshot } from "../store/snapshots.ts";
import type { Queries, Transaction } from "../store/store.ts";
import type { NewInstanceInput } from "../workflows/instance-input.ts";
import { freeSnapshotName, insertSnapshotOf, openSnapshot, openSnapshotWork } from "../workflows/open-snapshot.ts";
import { originOf } from "../workflows/saved-memory.ts";
import { changeOnce } from "./change.ts";
import { startMaking } from "./images.ts";
import { type InstanceRequestContext, requestInstance } from "./instances.ts";

/** Snapshots, as the server asks for them. */
export function snapshotServices(context: InstanceRequestContext): Services["snapshots"] {
  const { store } = context;

  const get = (scope: Scope, ref: string) => requireSnapshot(store.queries, scope, ref);
  /** The objects of an earlier change as they are now; as they were then, where they are gone. */
  const now = {
    snapshot: async (made: Snapshot) => (await readSnapshot(store.queries, made.id)) ?? made,
    instance: async (made: Instance) => (await readInstance(store.queries, made.id)) ?? made,
    operation: async (made: SnapshotChange["operation"]) => (await readOperation(store.queries, made.id)) ?? made,
  };
  const refresh = async ({ snapshot, operation }: SnapshotChange): Promise<SnapshotChange> => ({
    snapshot: await now.snapshot(snapshot),
    operation: await now.operation(operation),
  });

  return {
    async list(scope, { instance, ...query }) {
      const one = instance === undefined ? undefined : await findInstance(store.queries, scope.project, instance);
      const page = { ...query, project: scope.project, instance: one?.id ?? instance };
      const { rows, nextCursor } = await listSnapshots(store.queries, page);
      return { items: rows, nextCursor };
    },
    get,
    async create(scope, input, options) {
      return refresh(
        await changeOnce(store, scope, options, (tx) => requestCreate(tx, context, scope, input, options)),
      );
    },
    async remove(scope, ref, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestWork(tx, scope, ref, options, "delete")));
    },
    async verify(scope, ref, options) {
      return refresh(await changeOnce(store, scope, options, (tx) => requestWork(tx, scope, ref, options, "verify")));
    },
    async restore(scope, ref, input, options) {
      const made = await changeOnce(store, scope, options, (tx) => requestRestore(tx, scope, ref, input, options));
      return {
        instance: await now.instance(made.instance),
        operation: await now.operation(made.operation),
        kept: made.kept && (await now.snapshot(made.kept)),
      };
    },
    async promote(scope, ref, input, options) {
      const made = await changeOnce(store, scope, options, (tx) =>
        requestPromote(tx, context, scope, ref, input, options),
      );
      const image = (await readImage(store.queries, made.image.id)) ?? made.image;
      return { image, operation: await now.operation(made.operation) };
    },
    async launch(scope, ref, input, options) {
      const made = await changeOnce(store, scope, options, (tx) => requestLaunch(tx, context, scope, ref, input));
      return { instance: await now.instance(made.instance), operation: await now.operation(made.operation) };
    },
  };
}

async function requireSnapshot(queries: Queries, scope: Scope, ref: string): Promise<Snapshot> {
  const snapshot = await findSnapshot(queries, scope.project, ref);
  if (!snapshot) throw new BerthError("not_found", `There is no snapshot ${ref}.`);
  return snapshot;
}

/** A snapshot that can be used: it is whole, and nobody is deleting it. Nothing that deletes it can begin before the transaction ends. */
export async function requireUsable(tx: Transaction, scope: Scope, ref: string): Promise<Snapshot> {
  const found = await requireSnapshot(tx, scope, ref);
  await lockResources(tx, [resourceOf("snapshot", found.id)]);
  const snapshot = await requireSnapshot(tx, scope, found.id);
  const holder = snapshot.operationId ? await readOperation(tx, snapshot.operationId) : undefined;
  if (snapshot.state === "creating" || holder?.type === "snapshot.delete") {
    const operationId = holder ? { operationId: holder.id } : {};
    throw new BerthError("busy", `${snapshot.name} is held by ${holder?.type}.`, operationId);
  }
  return snapshot;
}

async function requireInstance(tx: Transaction, scope: Scope, ref: string): Promise<Instance> {
  const found = await findInstance(tx, scope.project, ref);
  if (found) await lockResources(tx, [resourceOf("instance", found.id)]);
  const instance = found && (await readInstance(tx, found.id));
  if (!instance) throw new BerthError("not_found", `There is no instance ${ref}.`);
  return instance;
}

async function requestCreate(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  input: CreateSnapshot,
  options: ChangeOptions,
): Promise<SnapshotChange> {
  const instance = await requireInstance(tx, scope, input.instance);
  const driver = context.drivers.get(instance.location);
  if (!driver?.abilities.snapshots) {
    throw new BerthError("unsupported_by_driver", `The driver of ${instance.location} cannot take snapshots.`);
  }
  if (isOn(instance) && !driver.switchDisks)
    throw new BerthError("instance_running", `${instance.location} takes no snapshots of what runs.`);
  if (input.memory && !driver.saveMemory)
    throw new BerthError("unsupported_by_driver", `The driver of ${instance.location} saves no memory.`);
  if (input.memory && !isOn(instance))
    throw new BerthError(
      "instance_not_running",
      `${instance.name} is ${instance.status.phase}: it has no memory to keep.`,
    );
  return openSnapshot(tx, instance, {
    name: input.name,
    kind: input.memory ? "memory" : "disk",
    automatic: false,
    crashConsistent: input.crashConsistent,
    queue: options.queue,
    requestedBy: scope.caller.id,
  });
}

function isOn({ status }: Instance): boolean {
  return status.phase === "running" || status.phase === "starting";
}

/** Work on the snapshot alone. */
async function requestWork(
  tx: Transaction,
  scope: Scope,
  ref: string,
  options: ChangeOptions,
  verb: "delete" | "verify",
): Promise<SnapshotChange> {
  const snapshot = await requireSnapshot(tx, scope, ref);
  const { queue } = options;
  return openSnapshotWork(tx, snapshot, { verb, first: verb === "delete", queue, requestedBy: scope.caller.id });
}

async function requestRestore(
  tx: Transaction,
  scope: Scope,
  ref: string,
  { instance: wanted, force, discard, diskOnly }: RestoreSnapshot,
  options: ChangeOptions,
): Promise<RestoreChange> {
  const snapshot = await requireUsable(tx, scope, ref);
  const instance = await requireInstance(tx, scope, wanted ?? snapshot.instanceId);
  const memory = snapshot.kind === "memory" && !diskOnly;
  const mismatch = restoreMismatch(instance.spec, snapshot.spec, memory);
  if (mismatch) throw new BerthError("snapshot_mismatch", mismatch);
  if (instance.nodeId !== snapshot.nodeId) {
    throw new BerthError("snapshot_mismatch", `${instance.name} is on another node than the snapshot.`);
  }
  const running = isOn(instance);
  if (running && !force) throw new BerthError("instance_running", `${instance.name} is ${instance.status.phase}.`);
  if (instance.status.phase === "suspended" && !force)
    throw new BerthError(
      "instance_suspended",
      `${instance.name} is suspended: its memory fits its present disks alone.`,
    );
  const power = running || memory ? "running" : "stopped";
  const { restartGeneration } = instance.spec;
  const keptId = discard ? null : newId("snapshot");
  const restore = { snapshotId: snapshot.id, keptId, memory };
  const operation = await startOperation(tx, {
    type: "instance.restore",
    project: scope.project,
    target: { kind: "instance", id: instance.id, name: instance.name },
    claims: [
      resourceOf("instance", instance.id),
      ...[snapshot.id, ...(keptId ? [keptId] : [])].map((id) => resourceOf("snapshot", id)),
    ],
    input: { force: false, power, restartGeneration, restore } satisfies NewInstanceInput,
    nodeId: instance.nodeId,
    requestedBy: scope.caller.id,
    queue: options.queue,
  });
  const kept = keptId
    ? await insertSnapshotOf(tx, instance, {
        id: keptId,
        name: await freeSnapshotName(tx, instance, "before-restore"),
        kind: "disk",
        automatic: false,
      })
    : null;
  const spec = { ...instance.spec, power } as const;
  // What the observer has written meanwhile is kept.
  const seen = (await lockInstance(tx, instance.id))?.status ?? instance.status;
  const status = { ...seen, phase: "provisioning", ready: false, health: "unknown" } as const;
  return { instance: await updateInstance(tx, instance.id, { spec, status }), operation, kept };
}

async function requestPromote(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  ref: string,
  input: PromoteSnapshot,
  options: ChangeOptions,
): Promise<ImageChange> {
  const { id, name, instanceId, instanceName, nodeId } = await requireUsable(tx, scope, ref);
  const instance = { id: instanceId, name: instanceName };
  const asked = {
    reference: canonicalReference(input.reference),
    source: { type: "snapshot" as const, snapshotId: id },
  };
  const source = { type: "snapshot" as const, snapshot: { id, name }, instance };
  return startMaking(tx, { ...context, nodeId }, scope, source, asked, "image.promote", {
    queue: options.queue,
    claims: [resourceOf("snapshot", id)],
  });
}

async function requestLaunch(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  ref: string,
  input: LaunchSnapshot,
): Promise<InstanceChange> {
  const snapshot = await requireUsable(tx, scope, ref);
  const image = await readImage(tx, snapshot.imageId);
  const folder = await readFolder(tx, snapshot.id);
  if (!image || folder === undefined) throw new BerthError("not_found", `The image of ${snapshot.name} is gone.`);
  const memory = snapshot.kind === "memory" && !input.cold;
  const beyond = memory ? beyondMemory(input) : undefined;
  if (beyond) {
    const what = `What goes on from memory has the ${beyond} that it had.`;
    throw new BerthError("invalid_request", `${what} Leave it out, or ask for a cold start.`);
  }
  return requestInstance(tx, context, scope, {
    name: input.name,
    labels: input.labels,
    location: snapshot.location,
    spec: specFromSnapshot(snapshot.spec, input),
    image,
    reference: snapshot.image,
    origin: {
      kind: "snapshot",
      instance: { id: snapshot.instanceId, name: snapshot.instanceName },
      snapshot: { id: snapshot.id, name: snapshot.name },
    },
    layers: folder,
    memory: memory ? { folder, used: false, origin: originOf(snapshot, "") } : null,
  });
}
