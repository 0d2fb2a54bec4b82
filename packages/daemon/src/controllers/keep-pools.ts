import { setTimeout as delay } from "node:timers/promises";
import { planPool } from "../core/pool-upkeep.ts";
import { shapeOf } from "../core/template-shape.ts";
import { withVolumes } from "../core/volumes.ts";
import { followEvents, lastEventSeq } from "../store/events.ts";
import { findImage } from "../store/images.ts";
import { listNodePools, listPoolMembers, type PoolMember, type StoredPool, updatePool } from "../store/pools.ts";
import { shapeKey, type TemplatePlace } from "../store/templates.ts";
import { findMachine } from "../workflows/blank-machine.ts";
import { dropMember, makeMember } from "../workflows/pool-changes.ts";
import type { Services } from "../workflows/services.ts";
import { templateBuild } from "../workflows/template-place.ts";
import type { ControllerLog } from "./controller.ts";

/** How often pools are looked at although nothing was heard of them, in milliseconds: a machine that dies in one tells nobody. */
const sweepMs = 30_000;
const requestedBy = "keep-pools";

/** What the controller of pools works with. */
export interface KeepPoolsOptions {
  readonly services: Services;
  readonly nodeId: string;
  readonly log: ControllerLog;
}

/** Keeps each pool of the node as full as it is to be: looks at them when something happens to one or to what it is made from, and now and then. */
export async function keepPools(options: KeepPoolsOptions, signal: AbortSignal): Promise<void> {
  const { services, log } = options;
  const { store } = services;
  let woken = Promise.withResolvers<void>();
  const after = await lastEventSeq(store.queries);
  const listening = (async () => {
    for await (const event of followEvents(store, { after }, signal)) if (concernsPools(event.type)) woken.resolve();
  })().catch((error: unknown) => {
    if (!signal.aborted) log.error({ err: error }, "pools are only looked at now and then: events cannot be followed");
  });
  while (!signal.aborted) {
    woken = Promise.withResolvers();
    try {
      for (const pool of await listNodePools(store.queries, options.nodeId))
        if (pool.state === "active") await keepPool(services, pool);
    } catch (error) {
      if (!signal.aborted) log.error({ err: error }, "the pools could not be looked at");
    }
    await Promise.race([woken.promise, delay(sweepMs, undefined, { signal }).catch(() => undefined)]);
  }
  await listening;
}

/** What may change a pool: an instance takes from it, its machines are made, its image changes. */
function concernsPools(type: string): boolean {
  return /^(pool\.|instance\.created$|image\.|template\.)/.test(type);
}

async function keepPool(services: Services, pool: StoredPool): Promise<void> {
  const { host, store } = services;
  const { place, lack } = await placeOf(services, pool);
  const members = await listPoolMembers(store.queries, pool.id);
  const key = place && shapeKey(place.shape);
  const seen = await Promise.all(
    members.map(async (member) => ({
      id: member.id,
      state: member.state,
      fits: member.shapeKey === key,
      waits: member.state !== "ready" || (await doesWait(services, member)),
    })),
  );
  const plan = planPool({
    size: place ? pool.size : 0,
    members: seen,
    failures: pool.failures,
    failedAt: pool.failedAt,
    now: await store.now(),
    memoryMib: pool.memoryMib,
    memoryAvailableMib: (await host.facts()).memoryAvailableMib,
  });
  for (const id of plan.drop) {
    const member = members.find((one) => one.id === id);
    if (member) await store.transaction((tx) => dropMember(tx, pool, member, requestedBy));
  }
  for (let count = 0; place && count < plan.make; count += 1)
    await store.transaction((tx) => makeMember(tx, pool, place, requestedBy));
  const reason = lack && pool.size > 0 ? lack : plan.reason;
  // What went wrong says more than that it is tried again.
  if (pool.failures === 0 && reason !== pool.reason)
    await store.transaction((tx) => updatePool(tx, pool.id, { reason }));
}

/** The place and shape that machines of a pool have today, or why there can be none. */
async function placeOf(
  services: Services,
  pool: StoredPool,
): Promise<{ readonly place?: TemplatePlace; readonly lack?: string }> {
  const { project, location, cpus, memoryMib, image } = pool;
  const found = await findImage(services.store.queries, project, image);
  const build = await templateBuild(services, location);
  if (build === undefined) return { lack: "its driver keeps no templates" };
  if (found?.state !== "ready" || !found.contentDigest)
    return { lack: `there is no image ${image} to make its machines from` };
  const disks = withVolumes([{ name: "root", sizeMib: 0 }], found.startConfig);
  const interfaces = [{ name: "eth0", network: "user" as const }];
  const shape = shapeOf({ cpus, memoryMib, disks, interfaces }, found.contentDigest, build);
  return { place: { project, location, shape } };
}

async function doesWait(services: Services, member: PoolMember): Promise<boolean> {
  const handle = await findMachine(services, member);
  return handle !== undefined && (await services.driver(member.location).inspect(handle)).power === "paused";
}
