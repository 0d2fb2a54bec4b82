import { PoolChange } from "../change.ts";
import { ChangeQuery, PageQuery, pageOf } from "../common.ts";
import { ChangePool, CreatePool, Pool, PoolParams } from "../pool.ts";
import { route } from "../route.ts";

const projectQuery = ChangeQuery.pick({ project: true });
const pools = "/api/v1/pools";

/** The requests about pools. */
export const poolRoutes = {
  listPools: route({
    method: "GET",
    path: pools,
    summary: "List pools",
    resource: "pool",
    action: "list",
    kind: "json",
    query: PageQuery,
    status: 200,
    response: pageOf(Pool),
  }),
  createPool: route({
    method: "POST",
    path: pools,
    summary: "Make a pool of machines that wait to become instances",
    description:
      "The pool is there at once and is filled in the background; an image that is not here yet is pulled first.",
    resource: "pool",
    action: "create",
    kind: "json",
    query: projectQuery,
    body: CreatePool,
    status: 201,
    response: Pool,
    idempotent: true,
  }),
  getPool: route({
    method: "GET",
    path: `${pools}/:pool`,
    summary: "Show one pool",
    resource: "pool",
    action: "read",
    kind: "json",
    params: PoolParams,
    query: projectQuery,
    status: 200,
    response: Pool,
  }),
  changePool: route({
    method: "PATCH",
    path: `${pools}/:pool`,
    summary: "Change how many machines wait in a pool",
    resource: "pool",
    action: "update",
    kind: "json",
    params: PoolParams,
    query: projectQuery,
    body: ChangePool,
    status: 200,
    response: Pool,
    idempotent: true,
  }),
  deletePool: route({
    method: "DELETE",
    path: `${pools}/:pool`,
    summary: "Delete a pool and the machines that wait in it; instances made from it go on",
    resource: "pool",
    action: "delete",
    kind: "json",
    params: PoolParams,
    query: ChangeQuery,
    status: 202,
    response: PoolChange,
    idempotent: true,
  }),
};
