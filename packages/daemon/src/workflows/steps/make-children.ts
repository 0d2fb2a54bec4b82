import { checkForkMemory } from "../../core/fork.ts";
import type { Step, StepOutcome } from "../../operations/workflow.ts";
import { ForkInput, forEachChild } from "../fork-record.ts";
import type { Services } from "../services.ts";
import { createDisks } from "./create-disks.ts";
import { createMachine } from "./create-machine.ts";
import { reservePorts } from "./reserve-ports.ts";

/** Makes disks, ports and machines of a fork's children, all of them off. What cannot be made is known before the parent stands still. */
export function makeChildren(services: Services): Step {
  const { folders, guests, host, store } = services;
  const [disks, ports, machine] = [createDisks(services), reservePorts(services), createMachine(services)];
  const writeDown = (outcome: StepOutcome | undefined) => outcome?.write && store.transaction(outcome.write);
  // One child after the other: what one has got the next must not choose.
  let last: Promise<unknown> = Promise.resolve();
  return {
    name: "make-children",
    async run(context) {
      const { children, memoryMib } = ForkInput.parse(context.operation.input);
      checkForkMemory({ count: children.length, memoryMib }, (await host.facts()).memoryAvailableMib);
      await forEachChild(context, async (child) => {
        await disks.run(child);
        const reserved = last.then(async () => writeDown(await ports.run(child)));
        last = reserved.catch(() => undefined);
        await reserved;
        await writeDown(await machine.run(child));
      });
      return undefined;
    },
    async undo(context) {
      await forEachChild(context, async (child) => {
        guests.detach(child.operation.target.id);
        await machine.undo?.(child);
        await folders.remove(child.operation.target.id);
      });
    },
  };
}
