import type { Step } from "../../operations/workflow.ts";
import type { Services } from "../services.ts";
import { targetSnapshot } from "../snapshot-record.ts";
import { findSnapshotDamage } from "../sound-layers.ts";

/** Reads all that the snapshot stands on from end to end. Its result says in words what is damaged; null when nothing is. */
export function verifyLayers(services: Services): Step {
  return {
    name: "verify-layers",
    async run(context) {
      const { snapshot, folder } = await targetSnapshot(services, context);
      const disks = snapshot.disks.map(({ name }) => name);
      const onFile = (name: string) => context.progress(null, `reading ${name}`);
      const inspected = { folder, disks, memory: snapshot.kind === "memory" };
      const damage = await findSnapshotDamage(services, inspected, { care: "all", signal: context.signal, onFile });
      return { result: damage ?? null };
    },
  };
}
