import { withVolumes } from "../../core/volumes.ts";
import { readImage } from "../../store/images.ts";
import { lockInstance, updateInstance } from "../../store/instances.ts";
import { holdToQuota } from "../../store/quotas.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";

/** Writes down which disks an instance is to have, now that its image is here. */
export function planDisks(services: Services): InstanceStep {
  const { store } = services;
  return {
    name: "plan-disks",
    async run(context) {
      const { id, imageId } = await targetInstance(services, context);
      const image = await readImage(store.queries, imageId);
      return {
        write: async (tx) => {
          const instance = await lockInstance(tx, id);
          if (!instance) return;
          const disks = withVolumes(instance.spec.disks, image?.startConfig ?? null);
          await updateInstance(tx, id, { spec: { ...instance.spec, disks } });
          await holdToQuota(tx, instance.project, ["diskMib"]);
        },
      };
    },
  };
}
