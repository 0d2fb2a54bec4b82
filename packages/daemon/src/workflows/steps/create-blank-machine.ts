import type { Step } from "../../operations/workflow.ts";
import { blankDisks, findMachine, targetMachine } from "../blank-machine.ts";
import { machineInputs } from "../machine-inputs.ts";
import type { Services } from "../services.ts";

/** Has the driver make a machine that is nobody's yet. Nothing is published. */
export function createBlankMachine(services: Services): Step & { readonly name: "create-machine" } {
  return {
    name: "create-machine",
    async run(context) {
      const machine = await targetMachine(services, context);
      const { id, location, cpus, memoryMib } = machine;
      const interfaces = Array.from({ length: machine.interfaces }, (_, index) => ({
        name: `eth${index}`,
        network: "user" as const,
      }));
      const size = { cpus, memoryMib, disks: blankDisks(machine), interfaces };
      const inputs = await machineInputs(services, { ownerId: id, name: id, ...size, ports: [], labels: {} });
      await services.driver(location).create(inputs);
      return undefined;
    },
    async undo(context) {
      const machine = await targetMachine(services, context);
      const handle = await findMachine(services, machine);
      if (handle) await services.driver(machine.location).destroy(handle);
    },
  };
}
