import { BerthError, type Image, type InstanceSpec } from "@berth/api";
import { ArchiveWriter } from "../archives/archive-writer.ts";
import type { HostUser } from "../core/descriptions.ts";
import type { Step, StepContext } from "../operations/workflow.ts";
import { packDisk } from "../storage/packed-disk.ts";
import { touchArchive } from "../store/archives.ts";
import { readImage } from "../store/images.ts";
import { ExportInput } from "./export-input.ts";
import type { Services } from "./services.ts";

/** What an archive is made of: an instance that is off, or a snapshot. */
export interface ArchiveContent {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly imageId: string;
  /** The image's reference as the instance knew it. */
  readonly image: string;
  readonly spec: InstanceSpec;
  /** The file of each of the spec's disks. */
  diskPath(name: string): string;
  /** Who reads them; null when the daemon is not root. */
  readonly user: HostUser | null;
}

/** A step that writes an archive, which appears under its name when it is whole. `find` looks for what goes into it, which does not change while the operation holds it. */
export function archiving(services: Services, find: (context: StepContext) => Promise<ArchiveContent>): Step {
  const { archives } = services;
  return {
    name: "write-archive",
    async run(context) {
      const { archiveId } = ExportInput.parse(context.operation.input);
      if ((await archives.size(archiveId)) === undefined) {
        try {
          await write(services, context, await find(context));
        } catch (error) {
          // At once: what fills the disk may keep the store from noting down that it does.
          await archives.remove(archiveId);
          throw error;
        }
        await archives.keep(archiveId);
      }
      const sizeBytes = (await archives.size(archiveId)) ?? null;
      const beginning = await archives.beginning(archiveId);
      return { write: (tx) => touchArchive(tx, archiveId, { sizeBytes, beginning }) };
    },
    async undo(context) {
      await archives.remove(ExportInput.parse(context.operation.input).archiveId);
    },
  };
}

async function write(services: Services, context: StepContext, content: ArchiveContent): Promise<void> {
  const { archives, host, store } = services;
  const { archiveId, environment } = ExportInput.parse(context.operation.input);
  const { name, labels, spec, user } = content;
  await archives.prepare();
  const path = archives.halfPath(archiveId);
  const writer = await ArchiveWriter.begin(path, {
    createdAt: new Date(context.operation.createdAt).toISOString(),
    image: describeImage(content, await readImage(store.queries, content.imageId)),
    environment: environment ? "included" : "left-out",
    instance: { name, labels, spec: { ...spec, power: "stopped", ...(environment ? {} : { env: {} }) } },
  });
  try {
    // The disks are packed by who may read them, who must be able to write them here.
    if (user) await host.files.chown(path, user.uid, user.gid);
    for (const [index, disk] of spec.disks.entries()) {
      const target = { targetPath: path, offset: await writer.beginDisk() };
      const progress = (percent: number) => {
        const detail = `disk ${index + 1} of ${spec.disks.length}: ${disk.name}`;
        context.progress((100 * index + percent) / spec.disks.length, detail);
      };
      const request = { sourcePath: content.diskPath(disk.name), user, ...target };
      const { sizeBytes } = await packDisk(host, request, { signal: context.signal, progress });
      await writer.endDisk(disk.name, sizeBytes, context.signal);
    }
    if (user) await host.files.chown(path, 0, 0);
    await writer.finish();
  } finally {
    await writer.close();
  }
}

function describeImage({ name, image: reference }: ArchiveContent, image: Image | undefined) {
  if (!image?.startConfig) throw new BerthError("not_found", `The image of ${name} is gone.`);
  const { os, architecture, startConfig, source } = image;
  // One that was imported says what its image was where it was first made.
  const contentDigest = source.type === "import" ? source.contentDigest : image.contentDigest;
  return { reference, contentDigest, os, architecture, startConfig };
}
