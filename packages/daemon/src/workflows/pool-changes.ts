import type { Operation } from "@berth/api";
import { newId } from "../core/ids.ts";
import { startOperation } from "../operations/start.ts";
import { resourceOf } from "../store/operations.ts";
import {
  insertPoolMember,
  listPoolMembers,
  movePoolMember,
  type PoolMember,
  type StoredPool,
  updatePool,
} from "../store/pools.ts";
import type { Transaction } from "../store/store.ts";
import type { TemplatePlace } from "../store/templates.ts";

/** Begins to make one more machine for a pool. */
export async function makeMember(
  tx: Transaction,
  pool: StoredPool,
  place: TemplatePlace,
  requestedBy: string,
): Promise<Operation> {
  const id = newId("instance");
  const { nodeId } = pool;
  const operation = await startOperation(tx, {
    type: "pool-member.create",
    project: pool.project,
    target: { kind: "pool-member", id, name: pool.name },
    claims: [resourceOf("pool-member", id)],
    input: {},
    nodeId,
    requestedBy,
  });
  await insertPoolMember(tx, { ...place, id, poolId: pool.id, nodeId });
  return operation;
}

/** Begins to remove a machine that waits in a pool; nothing happens when it was claimed meanwhile. */
export async function dropMember(
  tx: Transaction,
  pool: StoredPool,
  { id, nodeId, project }: PoolMember,
  requestedBy: string,
): Promise<void> {
  if (!(await movePoolMember(tx, id, "ready", "leaving"))) return;
  await startOperation(tx, {
    type: "pool-member.delete",
    project,
    target: { kind: "pool-member", id, name: pool.name },
    claims: [resourceOf("pool-member", id)],
    input: {},
    nodeId,
    requestedBy,
  });
}

/** Begins to delete a pool with all that waits in it; what is being made for it is given up. */
export async function deletePoolBy(
  tx: Transaction,
  pool: StoredPool,
  requestedBy: string,
  queue: boolean,
): Promise<Operation> {
  const members = await listPoolMembers(tx, pool.id);
  const operation = await startOperation(tx, {
    type: "pool.delete",
    project: pool.project,
    target: { kind: "pool", id: pool.id, name: pool.name },
    claims: [resourceOf("pool", pool.id), ...members.map(({ id }) => resourceOf("pool-member", id))],
    input: {},
    nodeId: pool.nodeId,
    requestedBy,
    queue,
    rank: 2,
  });
  await updatePool(tx, pool.id, { state: "deleting" });
  for (const { id } of members) await movePoolMember(tx, id, "ready", "leaving");
  return operation;
}
