import {
  BerthError,
  type CreateInstance,
  type Image,
  type Instance,
  type InstanceChange,
  type InstanceOrigin,
  type InstanceSpec,
  isId,
} from "@berth/api";
import { mayClaim } from "../core/choose-start.ts";
import { newId } from "../core/ids.ts";
import { checkCapacity, checkPorts, firstStatus, type NodeCapacity, specOf } from "../core/new-instance.ts";
import { randomName } from "../core/random-name.ts";
import { shapeOf } from "../core/template-shape.ts";
import { withVolumes } from "../core/volumes.ts";
import type { Driver } from "../drivers/driver.ts";
import { startOperation } from "../operations/start.ts";
import type { ChangeOptions, Scope, Services } from "../server/services.ts";
import { appendEvent } from "../store/events.ts";
import { findInstance, insertInstance, listInstances, readInstance, type SavedMemory } from "../store/instances.ts";
import { lockResources } from "../store/operation-claims.ts";
import { readOperation, resourceOf } from "../store/operations.ts";
import { claimPoolMember, doesAnyWait } from "../store/pools.ts";
import { holdToQuota, instanceQuotas } from "../store/quotas.ts";
import { readSnapshot } from "../store/snapshots.ts";
import type { Transaction } from "../store/store.ts";
import type { NewInstanceInput } from "../workflows/instance-input.ts";
import { instanceEvent } from "../workflows/instance-record.ts";
import { type ChangeRequest, openChange } from "../workflows/open-change.ts";
import { checkAutosuspend, requireMemory } from "./autosuspend.ts";
import { changeOnce, checkGeneration } from "./change.ts";
import { requestUpdate } from "./change-instance.ts";
import { requestFork } from "./fork-instance.ts";
import { findOrPull, holdImage } from "./image-to-use.ts";
import type { ImageRequestContext } from "./images.ts";
import { requestRebuild } from "./rebuild-instance.ts";

/** What requests about instances need to know of the node. */
export interface InstanceRequestContext extends ImageRequestContext {
  readonly capacity: NodeCapacity;
  readonly drivers: ReadonlyMap<string, Driver>;
  readonly defaultLocation: string;
  /** What machines of a location that go on from saved memory have in common today; undefined where none do. */
  memoryBuild(location: string): Promise<string | undefined>;
  /** Why nobody can be put to sleep and woken by connections here; empty when that can be. */
  readonly cannotStandIn: string;
}

type Changes = Pick<
  Services["instances"],
  "list" | "get" | "create" | "change" | "fork" | "rebuild" | "start" | "stop" | "suspend" | "restart" | "remove"
>;

/** What a new instance is to be. */
export interface NewInstanceRequest {
  readonly name: string | undefined;
  readonly labels: Instance["labels"];
  readonly location: string;
  readonly spec: InstanceSpec;
  readonly image: Image;
  /** The image's reference, as it is to be shown. */
  readonly reference: string;
  readonly origin: InstanceOrigin | null;
  /** The folder of frozen files that its disks are made from; null when they are made from the image. */
  readonly layers: string | null;
  /** What a machine of a pool must be built with for the instance to take it; none is taken when not given. */
  readonly build?: string | undefined;
  /** Memory of the moment those are of, that it goes on from; null when it boots, or may begin from a template. */
  readonly memory: SavedMemory | null;
}

/** Reading and changing instances, as the server asks for it; what leads into guests is in guests.ts. */
export function instanceServices(context: InstanceRequestContext): Changes {
  const { store } = context;

  /** The objects of an earlier change as they are now; as they were then, where they are gone. */
  const refresh = async <C extends InstanceChange>(made: C): Promise<C> => ({
    ...made,
    instance: (await readInstance(store.queries, made.instance.id)) ?? made.instance,
    operation: (await readOperation(store.queries, made.operation.id)) ?? made.operation,
  });

  const get = async (scope: Scope, ref: string): Promise<Instance> => {
    const instance = await findInstance(store.queries, scope.project, ref);
    if (!instance) throw new BerthError("not_found", `There is no instance ${ref}.`);
    return instance;
  };

  /** One change of an instance: its preconditions are judged and its operation is started in one transaction. */
  const changeOne = async <C extends InstanceChange>(
    scope: Scope,
    ref: string,
    options: ChangeOptions,
    request: (tx: Transaction, instance: Instance) => Promise<C>,
  ): Promise<C> => {
    // A repeated request must find its first answer although the instance may be gone by now, so it is looked up inside.
    const made = await changeOnce(store, scope, options, async (tx) => {
      const found = await findInstance(tx, scope.project, ref);
      if (found) await lockResources(tx, [resourceOf("instance", found.id)]);
      // Read again: who had the lock may have changed what the preconditions and the new spec are about.
      const instance = found && (await readInstance(tx, found.id));
      if (!instance) throw new BerthError("not_found", `There is no instance ${ref}.`);
      checkGeneration(options, instance.generation);
      return request(tx, instance);
    });
    return refresh(made);
  };
  const change = (scope: Scope, ref: string, options: ChangeOptions, asked: Parameters<typeof requestChange>[5]) =>
    changeOne(scope, ref, options, (tx, instance) => requestChange(tx, context, scope, instance, options, asked));

  return {
    async list(scope, query) {
      const { rows, nextCursor } = await listInstances(store.queries, { ...query, project: scope.project });
      return { items: rows, nextCursor };
    },
    get,
    async create(scope, input, options) {
      const build = await buildOf(context, scope.project, input.location ?? context.defaultLocation);
      return refresh(await changeOnce(store, scope, options, (tx) => requestCreate(tx, context, scope, input, build)));
    },
    change: (scope, ref, input, options) =>
      changeOne(scope, ref, options, (tx, instance) => requestUpdate(tx, context, scope, instance, input, options)),
    async fork(scope, ref, asked, options) {
      const { queue } = options;
      const made = await changeOne(scope, ref, options, (tx, instance) =>
        requestFork(tx, context, scope, instance, { asked, queue }),
      );
      const now = async (child: Instance) => (await readInstance(store.queries, child.id)) ?? child;
      return { ...made, children: await Promise.all(made.children.map(now)) };
    },
    async rebuild(scope, ref, asked, options) {
      const made = await changeOne(scope, ref, options, (tx, instance) =>
        requestRebuild(tx, context, scope, instance, asked, options),
      );
      return { ...made, kept: made.kept && ((await readSnapshot(store.queries, made.kept.id)) ?? made.kept) };
    },
    start: (scope, ref, options) => change(scope, ref, options, { verb: "start", force: false, cold: options.cold }),
    stop: (scope, ref, options) => change(scope, ref, options, { verb: "stop", force: options.force }),
    suspend: (scope, ref, options) => change(scope, ref, options, { verb: "suspend", force: false }),
    restart: (scope, ref, options) => change(scope, ref, options, { verb: "restart", force: false }),
    remove: (scope, ref, { force, snapshots, ...options }) =>
      change(scope, ref, options, { verb: "delete", force, snapshots }),
  };
}

async function requestCreate(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  input: CreateInstance,
  build: string | undefined,
): Promise<InstanceChange> {
  const location = input.location ?? context.defaultLocation;
  requireLocation(context, location);
  const image = await findOrPull(tx, context, scope, input.image);
  return requestInstance(tx, context, scope, {
    name: input.name,
    labels: input.labels,
    location,
    spec: specOf(input),
    image,
    reference: isId(input.image) ? (image.references[0] ?? image.id) : input.image,
    origin: null,
    layers: null,
    build,
    memory: null,
  });
}

function requireLocation(context: InstanceRequestContext, location: string): Driver {
  const driver = context.drivers.get(location);
  if (!driver) throw new BerthError("not_found", `There is no location ${location}.`);
  return driver;
}

/** Writes down a new instance and the operation that makes it. */
export async function requestInstance(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  request: NewInstanceRequest,
): Promise<InstanceChange> {
  const { labels, location, image, reference, origin, layers, memory, build } = request;
  // Memory of a template fits the image's disk alone.
  const spec: InstanceSpec =
    layers === null
      ? // What is not known of an image yet is planned for once it is there.
        { ...request.spec, disks: withVolumes(request.spec.disks, image.startConfig) }
      : { ...request.spec, warm: "auto" };
  const driver = requireLocation(context, location);
  checkCapacity(spec, context.capacity);
  checkPorts(spec.ports);
  if (!driver.abilities.boots.includes(image.kind)) {
    throw new BerthError("unsupported_by_driver", `${location} does not boot ${image.kind} images.`);
  }
  if ((spec.warm === "require" || spec.warm === "app") && !driver.abilities.templates)
    throw new BerthError("unsupported_by_driver", `${location} keeps no templates to begin from.`);
  checkAutosuspend(context, location, spec);
  await holdImage(tx, image.id);
  const name = request.name ?? (await freeName(tx, scope.project));
  const claimed =
    build !== undefined && image.contentDigest !== null && mayClaim(spec, driver.publish !== undefined)
      ? await claimPoolMember(tx, {
          project: scope.project,
          location,
          shape: shapeOf(spec, image.contentDigest, build),
        })
      : undefined;
  const id = claimed?.id ?? newId("instance");
  const operation = await startOperation(tx, {
    type: "instance.create",
    project: scope.project,
    target: { kind: "instance", id, name },
    claims: [resourceOf("instance", id)],
    input: { force: false, power: spec.power, restartGeneration: spec.restartGeneration } satisfies NewInstanceInput,
    nodeId: context.nodeId,
    requestedBy: scope.caller.id,
  });
  const instance = await insertInstance(tx, {
    id,
    project: scope.project,
    name,
    labels,
    imageId: image.id,
    image: reference,
    origin,
    layers,
    memory,
    location,
    nodeId: context.nodeId,
    spec,
    status: {
      ...firstStatus(new Date().toISOString()),
      start: claimed ? { mode: "pool", reason: `from the pool ${claimed.pool.name}` } : null,
    },
  });
  appendEvent(tx, instanceEvent(instance, "instance.created", operation.id, { image: instance.image }));
  await holdToQuota(tx, scope.project, instanceQuotas);
  return { instance: { ...instance, operationId: operation.id }, operation };
}

/** Asked only where a pool's machine may be taken. A location that cannot tell has none that could go on. */
async function buildOf(
  { memoryBuild, store }: InstanceRequestContext,
  project: string,
  location: string,
): Promise<string | undefined> {
  if (!(await doesAnyWait(store.queries, project, location))) return undefined;
  return memoryBuild(location).catch(() => undefined);
}

async function freeName(tx: Transaction, project: string): Promise<string> {
  for (;;) {
    const name = randomName(Math.random);
    if (!(await findInstance(tx, project, name))) return name;
  }
}

/** Judges what is asked of an instance, and opens its operation. */
async function requestChange(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  instance: Instance,
  options: ChangeOptions,
  asked: Omit<ChangeRequest, "queue" | "requestedBy">,
): Promise<InstanceChange> {
  const { name, status } = instance;
  const running = status.phase === "running" || status.phase === "starting";
  if (asked.verb === "delete" && running && !asked.force)
    throw new BerthError("instance_running", `${name} is ${status.phase}.`);
  // Who waits his turn finds the instance as it is then.
  if (!options.queue) refuseLoss(instance, asked);
  if (asked.verb === "suspend") {
    requireMemory(context.drivers.get(instance.location), instance.location);
    if (!running && status.phase !== "suspended" && !options.queue)
      throw new BerthError("instance_not_running", `${name} is ${status.phase}: only what runs can be suspended.`);
  }
  return openChange(tx, instance, { ...asked, queue: options.queue, requestedBy: scope.caller.id });
}

/** Refuses what would lose what is in a suspended instance's memory, unless it is forced. */
function refuseLoss({ name, status }: Instance, { verb, force }: Pick<ChangeRequest, "verb" | "force">): void {
  if (status.phase !== "suspended" || force || (verb !== "stop" && verb !== "restart")) return;
  throw new BerthError("instance_suspended", `${name} is suspended: a ${verb} would lose what is in its memory.`);
}
