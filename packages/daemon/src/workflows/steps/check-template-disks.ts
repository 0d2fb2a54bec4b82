import { BerthError } from "@berth/api";
import { isUntouched } from "../../storage/qcow2.ts";
import { updateTemplate } from "../../store/templates.ts";
import { diskFile } from "../instance-paths.ts";
import { templateDisks } from "../observe-template.ts";
import type { Services } from "../services.ts";
import { type TemplateStep, targetTemplate } from "./template-step.ts";

/**
 * Makes sure that nothing was written to the disks of a template's machine: a clone's disk begins as its image is, and its memory must not know of anything else.
 * Writes down how much the template takes.
 */
export function checkTemplateDisks(services: Services): TemplateStep {
  const { folders, host, templates } = services;
  return {
    name: "check-disks",
    async run(context) {
      const template = await targetTemplate(services, context);
      const { vmPath } = await folders.create(template.id);
      for (const name of templateDisks(template)) {
        if (!(await isUntouched(host, vmPath, diskFile(name))))
          throw new BerthError("template_failed", `Its machine wrote to the disk ${name} before it was saved.`);
      }
      const sizeBytes = await templates.usedBytes(template.id);
      return {
        write: async (tx) => {
          await updateTemplate(tx, template.id, { sizeBytes });
        },
      };
    },
  };
}
