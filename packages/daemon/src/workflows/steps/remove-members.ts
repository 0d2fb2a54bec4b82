import type { Step } from "../../operations/workflow.ts";
import { deletePoolMember, listPoolMembers } from "../../store/pools.ts";
import { findMachine } from "../blank-machine.ts";
import type { Services } from "../services.ts";

/** Removes every machine that a pool has left. */
export function removeMembers(services: Services): Step {
  const { folders, guests, store } = services;
  return {
    name: "remove-machines",
    async run(context) {
      const members = await listPoolMembers(store.queries, context.operation.target.id);
      for (const [index, member] of members.entries()) {
        context.progress((100 * index) / members.length, `${index} of ${members.length}`);
        guests.detach(member.id);
        const handle = await findMachine(services, member);
        if (handle) await services.driver(member.location).destroy(handle);
        await folders.remove(member.id);
        await store.transaction((tx) => deletePoolMember(tx, member.id));
      }
      return undefined;
    },
  };
}
