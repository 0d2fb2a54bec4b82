import type { Action, Operation } from "@berth/api";
import { type Call, type Handlers, waitFor } from "../call.ts";

type OperationRoutes =
  | "listOperations"
  | "getOperation"
  | "waitOperation"
  | "watchOperation"
  | "cancelOperation"
  | "operationLog";

/** An operation is named by its id alone, so it is loaded first and then its own project decides who may see it. */
async function find(
  call: Pick<Call<"getOperation">, "services" | "params" | "authorize">,
  action: Action = "read",
): Promise<Operation> {
  const operation = await call.services.operations.get(call.params.operation);
  call.authorize(action, "operation", operation.project);
  return operation;
}

export const operationHandlers: Handlers<OperationRoutes> = {
  listOperations: ({ services, scope, query }) => {
    const { limit, cursor, target, status, unfinished } = query;
    return services.operations.list(scope, { limit, cursor, target, status, unfinished: unfinished ?? false });
  },
  getOperation: (call) => find(call),
  waitOperation: async (call) => {
    const { id } = await find(call);
    return waitFor(call.services, id, call.query.timeout, call.signal);
  },
  watchOperation: async (call) => {
    const { id } = await find(call);
    return { messages: call.services.operations.watch(id, call.signal) };
  },
  cancelOperation: async (call) => {
    const { id } = await find(call, "update");
    return call.services.operations.cancel(id);
  },
  operationLog: async (call) => {
    const { id } = await find(call);
    return call.services.operations.log(id, { follow: call.query.follow ?? false, signal: call.signal });
  },
};
