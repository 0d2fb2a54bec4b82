import { choosePorts } from "../../network/ports.ts";
import { listPublishedPorts, readInstance, updateInstance } from "../../store/instances.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Gives every published port its host port, a free one where none was asked for. It is kept for all later runs of the instance. */
export function reservePorts(services: Services): InstanceStep {
  const { host, store } = services;
  return {
    name: "reserve-ports",
    async run(context) {
      const instance = await targetInstance(services, context);
      const held = await listPublishedPorts(store.queries, { nodeId: instance.nodeId, butNot: instance.id });
      const ports = [...(await choosePorts(host, instance.spec.ports, held))];
      return {
        write: async (tx) => {
          const current = await readInstance(tx, instance.id);
          if (current) await updateInstance(tx, current.id, { status: { ...current.status, ports } });
        },
      };
    },
  };
}
