import { pageOf } from "../common.ts";
import {
  ListOperationsQuery,
  Operation,
  OperationLogQuery,
  OperationParams,
  WaitOperationQuery,
} from "../operation.ts";
import { route } from "../route.ts";

const operations = "/api/v1/operations";

/** The requests about operations. */
export const operationRoutes = {
  listOperations: route({
    method: "GET",
    path: operations,
    summary: "List operations, newest first",
    resource: "operation",
    action: "list",
    kind: "json",
    query: ListOperationsQuery,
    status: 200,
    response: pageOf(Operation),
  }),
  getOperation: route({
    method: "GET",
    path: `${operations}/:operation`,
    summary: "Show one operation with its steps",
    resource: "operation",
    action: "read",
    kind: "json",
    params: OperationParams,
    status: 200,
    response: Operation,
  }),
  waitOperation: route({
    method: "GET",
    path: `${operations}/:operation/wait`,
    summary: "Wait for an operation to end",
    resource: "operation",
    action: "read",
    kind: "json",
    params: OperationParams,
    query: WaitOperationQuery,
    status: 200,
    response: Operation,
  }),
  watchOperation: route({
    method: "GET",
    path: `${operations}/:operation/watch`,
    summary: "Follow an operation until it ends",
    description:
      "Each message is the whole operation: at once, after each change of a step or its progress, and for the last time when it has ended.",
    resource: "operation",
    action: "read",
    kind: "events",
    params: OperationParams,
    status: 200,
    response: Operation,
  }),
  cancelOperation: route({
    method: "POST",
    path: `${operations}/:operation/cancel`,
    summary: "Cancel an operation",
    resource: "operation",
    action: "update",
    kind: "json",
    params: OperationParams,
    status: 202,
    response: Operation,
  }),
  operationLog: route({
    method: "GET",
    path: `${operations}/:operation/log`,
    summary: "Read the log of a pull or build",
    resource: "operation",
    action: "read",
    kind: "text",
    params: OperationParams,
    query: OperationLogQuery,
    status: 200,
  }),
};
