import type { Handlers } from "../call.ts";

export const nodeHandlers: Handlers<"listNodes" | "getNode"> = {
  listNodes: ({ services, scope }) => services.nodes.list(scope),
  getNode: ({ services, scope, params }) => services.nodes.get(scope, params.node),
};
