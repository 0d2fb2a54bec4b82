import { InstanceSpec } from "@berth/api";
import { z } from "zod";
import { keptPorts } from "../../core/published-ports.ts";
import { choosePorts } from "../../network/ports.ts";
import type { StepContext } from "../../operations/workflow.ts";
import { listPublishedPorts, lockInstance, updateInstance } from "../../store/instances.ts";
import type { Transaction } from "../../store/store.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

const Result = z.object({ former: InstanceSpec.shape.ports });

/** The ports that this operation replaced by others; undefined when it did not. */
function formerPorts(context: Pick<StepContext, "journal">): InstanceSpec["ports"] | undefined {
  return Result.safeParse(context.journal.get("reserve-ports")?.result).data?.former;
}

/** Gives every published port its host port, a free one where none was asked for. It is kept for all later runs of the instance. */
export function reservePorts(services: Services): InstanceStep {
  const { host, store } = services;
  const writePorts = (id: string, ports: InstanceSpec["ports"]) => async (tx: Transaction) => {
    const current = await lockInstance(tx, id);
    if (current) await updateInstance(tx, id, { status: { ...current.status, ports } });
  };
  return {
    name: "reserve-ports",
    async run(context) {
      const { id, nodeId, spec, status } = await targetInstance(services, context);
      const held = await listPublishedPorts(store.queries, { nodeId, butNot: id });
      const ports = [...(await choosePorts(host, keptPorts(spec.ports, status.ports), held))];
      return { result: { former: status.ports }, write: writePorts(id, ports) };
    },
    async undo(context) {
      const former = formerPorts(context);
      if (former) await store.transaction(writePorts(context.operation.target.id, former));
    },
  };
}
