import { unpackDisk } from "../../storage/packed-disk.ts";
import { ImportInput } from "../import-input.ts";
import { diskPath } from "../instance-paths.ts";
import type { Services } from "../services.ts";
import { type InstanceStep, targetInstance } from "./step.ts";
import { verifiedDisks } from "./verify-archive.ts";

/** Makes the instance's folder and its disks of those in an archive. */
export function unpackDisks(services: Services): InstanceStep {
  const { archives, folders, host } = services;
  return {
    name: "create-disks",
    async run(context) {
      const { id, spec } = await targetInstance(services, context);
      const { archiveId } = ImportInput.parse(context.operation.input);
      const { vmPath, user } = await folders.create(id);
      const disks = verifiedDisks(context);
      await archives.lend(archiveId, user, async () => {
        for (const [index, { name, unpackedBytes, ...place }] of disks.entries()) {
          const sizeMib = spec.disks.find((disk) => disk.name === name)?.sizeMib ?? 0;
          const request = { path: diskPath(vmPath, name), sizeMib, maxBytes: unpackedBytes, user };
          const progress = (percent: number) =>
            context.progress((100 * index + percent) / disks.length, `disk ${index + 1} of ${disks.length}: ${name}`);
          const work = { signal: context.signal, progress };
          await unpackDisk(host, { path: archives.path(archiveId), ...place }, request, work);
        }
      });
      return undefined;
    },
    async undo(context) {
      await folders.remove(context.operation.target.id);
    },
  };
}
