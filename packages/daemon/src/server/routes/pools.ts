import { answerChange, changeOptions, type Handlers } from "../call.ts";

type PoolRoutes = "listPools" | "createPool" | "getPool" | "changePool" | "deletePool";

export const poolHandlers: Handlers<PoolRoutes> = {
  listPools: ({ services, scope, query: { limit, cursor } }) => services.pools.list(scope, { limit, cursor }),
  createPool: (call) => call.services.pools.create(call.scope, call.body, changeOptions("createPool", call)),
  getPool: ({ services, scope, params }) => services.pools.get(scope, params.pool),
  changePool: (call) =>
    call.services.pools.change(call.scope, call.params.pool, call.body, changeOptions("changePool", call)),
  deletePool: async (call) => {
    const { services, scope, params } = call;
    const change = await services.pools.remove(scope, params.pool, changeOptions("deletePool", call));
    return answerChange(call, change, async () => ({ pool: await services.pools.get(scope, params.pool) }));
  },
};
