import type { Step } from "../../operations/workflow.ts";
import { requireMachine, targetMachine } from "../blank-machine.ts";
import { attachBlank } from "../guest-access.ts";
import type { Services } from "../services.ts";

/**
 * Waits until the guest of a machine that is nobody's says that it waits to be told who it is, or where the image's process is started that this is ready; or that
 * there is nothing to wait for; at the latest until the time limit. What came of it is observed afterwards. Its result is `in vain` when the time limit has passed.
 */
export function awaitPrepared(services: Services): Step & { readonly name: "await-prepared" } {
  const { guests, readyTimeoutMs } = services;
  return {
    name: "await-prepared",
    async run(context) {
      const machine = await targetMachine(services, context);
      const handle = await requireMachine(services, machine);
      attachBlank(services, machine, services.driver(machine.location), handle);
      const limit = AbortSignal.timeout(readyTimeoutMs);
      try {
        await guests.waitFor(
          machine.id,
          ({ phase, ready, exit, failure, gone }) =>
            gone || exit !== null || failure !== null || (machine.app ? ready : phase !== "booting"),
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
