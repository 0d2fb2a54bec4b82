import { BerthError } from "@berth/api";
import { createOverlay } from "../../storage/qcow2.ts";
import { diskPath } from "../instance-paths.ts";
import { templateDisks } from "../observe-template.ts";
import type { Services } from "../services.ts";
import { type TemplateStep, targetTemplate } from "./template-step.ts";

/** Makes a folder and disks for the machine whose memory becomes the template: as small as its image, since no clone's disk may be smaller. */
export function createTemplateDisks(services: Services): TemplateStep {
  const { folders, host, images } = services;
  return {
    name: "create-disks",
    async run(context) {
      const template = await targetTemplate(services, context);
      const artifact = await images.findArtifact(template.contentDigest);
      if (!artifact) throw new BerthError("not_found", "The artifact of its image is gone.");
      const { vmPath, user } = await folders.create(template.id);
      for (const name of templateDisks(template)) {
        const size = { sizeMib: artifact.minDiskMib, backingPath: artifact.path };
        await createOverlay(host, { name, path: diskPath(vmPath, name), ...size, user }, context.signal);
      }
      return undefined;
    },
    async undo(context) {
      await folders.remove(context.operation.target.id);
    },
  };
}
