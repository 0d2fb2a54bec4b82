import { BerthError } from "@berth/api";
import type { Services } from "../server/services.ts";
import { findNode, listNodes } from "../store/nodes.ts";
import type { Store } from "../store/store.ts";

/** Nodes, as the server asks for them. */
export function nodeServices(store: Store): Services["nodes"] {
  return {
    list: async () => ({ items: await listNodes(store.queries), nextCursor: null }),
    async get(_scope, ref) {
      const node = await findNode(store.queries, ref);
      if (!node) throw new BerthError("not_found", `There is no node ${ref}.`);
      return node;
    },
  };
}
