import { BerthError } from "@berth/api";
import type { Step } from "../../operations/workflow.ts";
import { countTemplateUse, findTemplate } from "../../store/templates.ts";
import { findMachine, requireMachine, targetMachine } from "../blank-machine.ts";
import { dropTemplate } from "../delete-template.ts";
import type { Services } from "../services.ts";

/** Clones the machine of a pool from the template of its shape; one that was left standing still goes on. */
export function startMember(services: Services): Step & { readonly name: "start-machine" } {
  const { guests, network, store, templates } = services;
  return {
    name: "start-machine",
    async run(context) {
      const machine = await targetMachine(services, context);
      const driver = services.driver(machine.location);
      const handle = await requireMachine(services, machine);
      await network.prepare();
      if ((await driver.inspect(handle)).power !== "stopped") {
        await driver.start(handle, context.signal);
        return undefined;
      }
      const place = { project: machine.project, location: machine.location, shape: machine };
      const template = (await findTemplate(store.queries, place))?.template;
      if (template?.state !== "ready") throw new BerthError("template_failed", "Its template was deleted meanwhile.");
      try {
        const memory = { folder: templates.memoryPath(template.id), use: "shared" } as const;
        await driver.start(handle, context.signal, { memory });
      } catch (error) {
        if (error instanceof BerthError && error.code === "memory_unusable")
          await dropTemplate(services, template.id, context.operation.id);
        throw error;
      }
      return { write: (tx) => countTemplateUse(tx, template.id) };
    },
    async undo(context) {
      const machine = await targetMachine(services, context);
      guests.detach(machine.id);
      const handle = await findMachine(services, machine);
      if (handle) await services.driver(machine.location).powerOff(handle);
    },
  };
}
