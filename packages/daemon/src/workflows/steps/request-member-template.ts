import { BerthError } from "@berth/api";
import type { Step } from "../../operations/workflow.ts";
import { readPool, readPoolMember } from "../../store/pools.ts";
import { requestTemplate } from "../request-template.ts";
import type { Services } from "../services.ts";

/** Has the template made that a pool's machine is to be cloned from; who makes it already is joined. */
export function requestMemberTemplate({ store }: Services): Step & { readonly name: "request-template" } {
  return {
    name: "request-template",
    async run({ operation }) {
      const member = await readPoolMember(store.queries, operation.target.id);
      const pool = member && (await readPool(store.queries, member.poolId));
      if (!pool) throw new BerthError("not_found", "The pool is gone.");
      const { project, location, nodeId } = member;
      const request = {
        place: { project, location, shape: member },
        nodeId,
        image: pool.image,
        requestedBy: operation.id,
      };
      await store.transaction((tx) => requestTemplate(tx, request));
      return undefined;
    },
  };
}
