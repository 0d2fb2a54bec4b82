import { BerthError } from "@berth/api";
import { z } from "zod";
import { refuseArchive } from "../../archives/manifest.ts";
import { openArchive, verifyArchive } from "../../archives/read-archive.ts";
import type { Step, StepContext } from "../../operations/workflow.ts";
import { inspectPackedDisk } from "../../storage/packed-disk.ts";
import { ImportInput } from "../import-input.ts";
import type { Services } from "../services.ts";

const bytesPerMib = 1024 * 1024;

/** What was found of an archive's disks: where each is in the file, and what it takes unpacked. */
const Verified = z.object({
  disks: z.array(
    z.object({
      name: z.string(),
      offset: z.number(),
      fileBytes: z.number(),
      sizeBytes: z.number(),
      unpackedBytes: z.number(),
    }),
  ),
});

/** What `verify-archive` has left in the journal. */
export function verifiedDisks({ journal }: Pick<StepContext, "journal">): z.infer<typeof Verified>["disks"] {
  return Verified.parse(journal.get("verify-archive")?.result).disks;
}

/** Holds an archive to its checksums and looks into each of its disks, before anything is made of it. */
export function verifyArchiveStep({ archives, folders, host }: Services): Step {
  return {
    name: "verify-archive",
    async run(context) {
      const { archiveId } = ImportInput.parse(context.operation.input);
      const path = archives.path(archiveId);
      const archive = openArchive(path);
      await verifyArchive(path, archive, {
        signal: context.signal,
        progress: (percent, detail) => context.progress(percent, `checksum of ${detail}`),
      });
      const disks = await archives.lend(archiveId, folders.nobody, async () => {
        const found: z.infer<typeof Verified>["disks"] = [];
        for (const [index, { name, fileBytes, sizeBytes }] of archive.manifest.disks.entries()) {
          context.progress(null, `disk ${name}`);
          const offset = archive.disks[index]?.offset ?? 0;
          const disk = { path, offset, fileBytes, sizeBytes };
          const facts = await inspectPackedDisk(host, disk, folders.nobody, context.signal);
          if (facts.refused !== null) throw refuseArchive(`has a disk ${name} that ${facts.refused}`);
          found.push({ name, offset, fileBytes, sizeBytes, unpackedBytes: facts.unpackedBytes });
        }
        return found;
      });
      const needed = disks.reduce((sum, { unpackedBytes }) => sum + unpackedBytes, 0);
      const free = await host.files.freeBytes(path);
      if (needed > free) throw tooLarge(needed, free);
      return { result: { disks } };
    },
  };
}

function tooLarge(needed: number, free: number): BerthError {
  const mib = (bytes: number) => Math.ceil(bytes / bytesPerMib);
  return new BerthError("disk_full", `Its disks take ${mib(needed)} MiB; the node has ${mib(free)} MiB free.`);
}
