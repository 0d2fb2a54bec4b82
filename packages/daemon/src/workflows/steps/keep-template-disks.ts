import { BerthError } from "@berth/api";
import { volumesDisk } from "../../core/volumes.ts";
import type { Step } from "../../operations/workflow.ts";
import { isUntouched } from "../../storage/qcow2.ts";
import { updateTemplate } from "../../store/templates.ts";
import { blankDisks, targetMachine } from "../blank-machine.ts";
import { diskFile, diskPath } from "../instance-paths.ts";
import type { Services } from "../services.ts";

/**
 * Makes sure that nothing was written to the disks of a template's machine: a clone's disk begins as its image is, and its memory must not know of anything else. Where
 * the image's process was started, what it wrote is kept with the memory instead, and each clone gets a copy. Writes down how much the template takes.
 */
export function keepTemplateDisks(services: Services): Step & { readonly name: "keep-disks" } {
  const { folders, host, templates } = services;
  return {
    name: "keep-disks",
    async run(context) {
      const machine = await targetMachine(services, context);
      const { vmPath } = await folders.create(machine.id);
      for (const name of blankDisks(machine)) {
        if (machine.app) await templates.keepDisk(machine.id, name, diskPath(vmPath, name), context.signal);
        // Nothing of it is read before the guest is told who it is.
        else if (name !== volumesDisk && !(await isUntouched(host, vmPath, diskFile(name))))
          throw new BerthError("template_failed", `Its machine wrote to the disk ${name} before it was saved.`);
      }
      const sizeBytes = await templates.usedBytes(machine.id);
      return {
        write: async (tx) => {
          await updateTemplate(tx, machine.id, { sizeBytes });
        },
      };
    },
  };
}
