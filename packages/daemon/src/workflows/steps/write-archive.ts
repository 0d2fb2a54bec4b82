import { BerthError, type Image, type Instance } from "@berth/api";
import { ArchiveWriter } from "../../archives/archive-writer.ts";
import type { ManifestDraft } from "../../archives/manifest.ts";
import type { Step, StepContext } from "../../operations/workflow.ts";
import { packDisk } from "../../storage/packed-disk.ts";
import { touchArchive } from "../../store/archives.ts";
import { readImage } from "../../store/images.ts";
import { ExportInput } from "../export-input.ts";
import { diskPath } from "../instance-paths.ts";
import { findHandle } from "../observe-instance.ts";
import type { Services } from "../services.ts";
import { targetInstance } from "./step.ts";

/** Writes an instance that is off into an archive, which appears under its name when it is whole. */
export function writeArchive(services: Services): Step {
  const { archives } = services;
  return {
    name: "write-archive",
    async run(context) {
      const { archiveId, environment } = ExportInput.parse(context.operation.input);
      if ((await archives.size(archiveId)) === undefined) {
        await write(services, context, archiveId, environment);
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

async function write(services: Services, context: StepContext, archiveId: string, environment: boolean): Promise<void> {
  const { archives, folders, host, store } = services;
  const instance = await targetInstance(services, context);
  await requireOff(services, instance);
  const image = await readImage(store.queries, instance.imageId);
  const folder = await folders.find(instance.id);
  if (!folder)
    throw new BerthError("disk_missing", `The disks of ${instance.name} are gone from the node's data folder.`);
  await archives.prepare();
  const path = archives.halfPath(archiveId);
  const writer = await ArchiveWriter.begin(path, draftOf(instance, image, environment, context));
  try {
    // The disks are packed by their own user, who must be able to write them here.
    if (folder.user) await host.files.chown(path, folder.user.uid, folder.user.gid);
    const { disks } = instance.spec;
    for (const [index, { name }] of disks.entries()) {
      const source = { sourcePath: diskPath(folder.vmPath, name), user: folder.user };
      const target = { targetPath: path, offset: await writer.beginDisk() };
      const progress = (percent: number) =>
        context.progress((100 * index + percent) / disks.length, `disk ${index + 1} of ${disks.length}: ${name}`);
      const { sizeBytes } = await packDisk(host, { ...source, ...target }, { signal: context.signal, progress });
      await writer.endDisk(name, sizeBytes, context.signal);
    }
    if (folder.user) await host.files.chown(path, 0, 0);
    await writer.finish();
  } finally {
    await writer.close();
  }
}

/** The operation holds the instance, so what is off stays off. */
async function requireOff(services: Services, instance: Instance): Promise<void> {
  const handle = await findHandle(services, instance);
  if (!handle || (await services.driver(instance.location).inspect(handle)).power === "stopped") return;
  throw new BerthError("instance_running", `${instance.name} is on; its disks change while they are read.`);
}

function draftOf(
  instance: Instance,
  image: Image | undefined,
  environment: boolean,
  { operation }: StepContext,
): ManifestDraft {
  const { name, labels, spec } = instance;
  if (!image?.startConfig) throw new BerthError("not_found", `The image of ${name} is gone.`);
  const { contentDigest, os, architecture, startConfig } = image;
  return {
    createdAt: new Date(operation.createdAt).toISOString(),
    image: { reference: instance.image, contentDigest, os, architecture, startConfig },
    environment: environment ? "included" : "left-out",
    instance: { name, labels, spec: { ...spec, power: "stopped", ...(environment ? {} : { env: {} }) } },
  };
}
