import { BerthError, type CreatePool, isId, type Pool, type PoolChange } from "@berth/api";
import { newId } from "../core/ids.ts";
import { checkCapacity } from "../core/new-instance.ts";
import { canonicalReference } from "../images/reference.ts";
import type { Scope, Services as ServerServices } from "../server/services.ts";
import { appendEvent } from "../store/events.ts";
import { readImage } from "../store/images.ts";
import {
  findPool,
  insertPool,
  listPoolMembers,
  listPools,
  readPool,
  type StoredPool,
  updatePool,
} from "../store/pools.ts";
import { holdToQuota } from "../store/quotas.ts";
import type { Transaction } from "../store/store.ts";
import { findMachine } from "../workflows/blank-machine.ts";
import { deletePoolBy } from "../workflows/pool-changes.ts";
import { poolEvent } from "../workflows/pool-event.ts";
import type { Services } from "../workflows/services.ts";
import { changeOnce } from "./change.ts";
import { requestPull } from "./images.ts";
import type { InstanceRequestContext } from "./instances.ts";

/** What a pool's machines take. */
const poolQuotas = ["instances", "cpus", "memoryMib"] as const;

/** Pools, as the server asks for them. */
export function poolServices(services: Services, context: InstanceRequestContext): ServerServices["pools"] {
  const { store } = services;

  const find = async ({ project }: Scope, ref: string): Promise<StoredPool> => {
    const pool = await findPool(store.queries, project, ref);
    if (!pool) throw new BerthError("not_found", `There is no pool ${ref}.`);
    return pool;
  };

  return {
    async list({ project }, query) {
      const { rows, nextCursor } = await listPools(store.queries, { ...query, project });
      return { items: await Promise.all(rows.map((pool) => describe(services, pool))), nextCursor };
    },
    get: async (scope, ref) => describe(services, await find(scope, ref)),
    async create(scope, input, options) {
      const made = await changeOnce(store, scope, options, (tx) => requestCreate(tx, context, scope, input));
      return describe(services, made);
    },
    async change(scope, ref, { size }, options) {
      const { id } = await find(scope, ref);
      const changed = await changeOnce(store, scope, options, async (tx) => {
        const before = await readPool(tx, id);
        const pool = await updatePool(tx, id, { size, failures: 0, reason: "" });
        if (pool.state === "deleting") throw new BerthError("not_found", `The pool ${pool.name} is being deleted.`);
        appendEvent(tx, poolEvent(pool, "pool.changed", null, { size }));
        if (size > (before?.size ?? 0)) await holdToQuota(tx, scope.project, poolQuotas);
        return pool;
      });
      return describe(services, changed);
    },
    async remove(scope, ref, options): Promise<PoolChange> {
      const { pool, operation } = await changeOnce(store, scope, options, async (tx) => {
        const found = await findPool(tx, scope.project, ref);
        if (!found) throw new BerthError("not_found", `There is no pool ${ref}.`);
        return { pool: found, operation: await deletePoolBy(tx, found, scope.caller.id, options.queue) };
      });
      return { pool: await describe(services, pool), operation };
    },
  };
}

/** A pool with what its machines tell. */
async function describe(services: Services, stored: StoredPool): Promise<Pool> {
  const { failures: _, failedAt: __, ...pool } = stored;
  const members = await listPoolMembers(services.store.queries, pool.id);
  const waiting = members.filter(({ state }) => state === "ready");
  const driver = services.driver(pool.location);
  const used = await Promise.all(
    waiting.map(async (member) => {
      const handle = await findMachine(services, member);
      return handle && (await driver.memoryUsed?.(handle));
    }),
  );
  const known = used.every((bytes) => bytes !== undefined);
  return {
    ...pool,
    ready: waiting.length,
    filling: members.filter(({ state }) => state === "making").length,
    machines: members.map(({ id, state }) => ({ id, state })),
    memoryBytes: known ? used.reduce((sum, bytes) => sum + (bytes ?? 0), 0) : null,
  };
}

async function requestCreate(
  tx: Transaction,
  context: InstanceRequestContext,
  scope: Scope,
  input: CreatePool,
): Promise<StoredPool> {
  const { name, size, cpus, memoryMib } = input;
  const location = input.location ?? context.defaultLocation;
  const driver = context.drivers.get(location);
  if (!driver) throw new BerthError("not_found", `There is no location ${location}.`);
  if (!driver.abilities.templates || !driver.pause)
    throw new BerthError("unsupported_by_driver", `${location} cannot keep machines waiting.`);
  checkCapacity({ cpus, memoryMib }, context.capacity);
  const image = isId(input.image) ? input.image : canonicalReference(input.image);
  if (isId(image)) {
    const found = await readImage(tx, image);
    if (found?.project !== scope.project) throw new BerthError("not_found", `There is no image ${image}.`);
  } else {
    await requestPull(tx, context, scope, { reference: image, refresh: false });
  }
  const pool = await insertPool(tx, {
    id: newId("pool"),
    name,
    project: scope.project,
    image,
    location,
    nodeId: context.nodeId,
    cpus,
    memoryMib,
    size,
  });
  appendEvent(tx, poolEvent(pool, "pool.created", null, { size }));
  await holdToQuota(tx, scope.project, poolQuotas);
  return pool;
}
