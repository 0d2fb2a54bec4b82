import type { Step } from "../../operations/workflow.ts";
import { requireMachine, targetMachine } from "../blank-machine.ts";
import { attachUnconfigured } from "../guest-access.ts";
import type { Services } from "../services.ts";

/**
 * Waits until the guest of a machine that is nobody's says that it waits to be told who it is, or is gone; at the latest until the time limit. What came of it is
 * observed afterwards. Its result is `in vain` when the time limit has passed.
 */
export function awaitPrepared(services: Services): Step & { readonly name: "await-prepared" } {
  const { guests, readyTimeoutMs } = services;
  return {
    name: "await-prepared",
    async run(context) {
      const machine = await targetMachine(services, context);
      const handle = await requireMachine(services, machine);
      attachUnconfigured(services, machine.id, services.driver(machine.location), handle);
      const limit = AbortSignal.timeout(readyTimeoutMs);
      try {
        await guests.waitFor(
          machine.id,
          ({ phase, gone }) => phase !== "booting" || gone,
          AbortSignal.any([context.signal, limit]),
        );
      } catch (error) {
        if (!limit.aborted) throw error;
        return { result: "in vain" };
      }
      return undefined;
    },
  };
}
