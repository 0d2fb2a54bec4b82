import { pageOf } from "../common.ts";
import { Node, NodeParams } from "../node.ts";
import { route } from "../route.ts";

/** The requests about nodes. */
export const nodeRoutes = {
  listNodes: route({
    method: "GET",
    path: "/api/v1/nodes",
    summary: "List nodes",
    resource: "node",
    action: "list",
    kind: "json",
    status: 200,
    response: pageOf(Node),
  }),
  getNode: route({
    method: "GET",
    path: "/api/v1/nodes/:node",
    summary: "Show one node: what it has, can do and lacks",
    resource: "node",
    action: "read",
    kind: "json",
    params: NodeParams,
    status: 200,
    response: Node,
  }),
};
