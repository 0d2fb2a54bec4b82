import type { Template } from "@berth/api";
import type { ObservedTemplate } from "../core/decide-template.ts";
import type { Handle } from "../drivers/driver.ts";
import { diskPath } from "./instance-paths.ts";
import type { Services } from "./services.ts";

/** The names of a template's disks: as many as its shape has, the root disk first. */
export function templateDisks({ disks }: Template): string[] {
  return Array.from({ length: disks }, (_, index) => (index === 0 ? "root" : `disk${index}`));
}

/** What the driver has of a template's machine, by its owner's mark; undefined when there is none. */
export function findTemplateMachine(services: Services, { id, location }: Template): Promise<Handle | undefined> {
  return services.driver(location).find(services.ownerOf(id));
}

/** Looks at all there is of a template that is being made. `heard`: whether its guest has said anything to this berthd. Changes nothing. */
export async function observeTemplate(
  services: Services,
  template: Template,
): Promise<{ readonly observed: ObservedTemplate; readonly heard: boolean }> {
  const { folders, guests, host, images, templates } = services;
  const { id, location, contentDigest } = template;
  const folder = await folders.find(id);
  const hasDisk = async (name: string) => folder !== undefined && host.files.exists(diskPath(folder.vmPath, name));
  const disks = await Promise.all(templateDisks(template).map(hasDisk));
  const handle = await findTemplateMachine(services, template);
  const machine = handle && (await services.driver(location).inspect(handle));
  const guest = guests.latest(id);
  return {
    heard: guest !== undefined && guest.bootId !== "",
    observed: {
      artifact: (await images.findArtifact(contentDigest)) !== undefined,
      disks: disks.every(Boolean),
      folder: await host.files.exists(folders.path(id)),
      made: machine?.exists ?? false,
      power: machine?.power ?? "stopped",
      powerReason: machine?.reason ?? "",
      prepared: guest?.phase === "prepared",
      saved: await host.files.exists(templates.memoryPath(id)),
    },
  };
}
