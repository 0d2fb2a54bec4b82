import { BerthError } from "@berth/api";
import { volumesDisk } from "../../core/volumes.ts";
import type { Step } from "../../operations/workflow.ts";
import { createOverlay } from "../../storage/qcow2.ts";
import { createVolumesDisk } from "../../storage/volumes-disk.ts";
import { blankDisks, targetMachine } from "../blank-machine.ts";
import { diskPath } from "../instance-paths.ts";
import type { Services } from "../services.ts";

/**
 * Makes a folder and disks for a machine that is nobody's yet: as small as its image, since no instance's disk may be smaller; where the image's process is started,
 * as large as its instances' are.
 */
export function createBlankDisks(services: Services): Step & { readonly name: "create-disks" } {
  const { folders, host, images } = services;
  return {
    name: "create-disks",
    async run(context) {
      const machine = await targetMachine(services, context);
      const artifact = await images.findArtifact(machine.contentDigest);
      if (!artifact) throw new BerthError("not_found", "The artifact of its image is gone.");
      const { vmPath, user } = await folders.create(machine.id);
      for (const name of blankDisks(machine)) {
        const sizeMib = Math.max(machine.app?.diskMib ?? 0, artifact.minDiskMib);
        const request = { name, path: diskPath(vmPath, name), sizeMib, user };
        if (name === volumesDisk) await createVolumesDisk(host, request, context.signal);
        else await createOverlay(host, { ...request, backingPath: artifact.path }, context.signal);
      }
      return undefined;
    },
    async undo(context) {
      await folders.remove(context.operation.target.id);
    },
  };
}
