import { createHash } from "node:crypto";
import { BerthError, type StartConfig } from "@berth/api";
import type { Step, StepContext } from "../../operations/workflow.ts";
import { flattenDisk, sumOfDisk } from "../../storage/flatten-disk.ts";
import { readImage } from "../../store/images.ts";
import { ImageInput, toJournal } from "../made-image.ts";
import type { Services } from "../services.ts";
import { requireSnapshot } from "../snapshot-record.ts";
import { requireSound } from "../sound-layers.ts";

/** Writes a snapshot's root disk out as a file that stands on nothing, and finds out what its content is called. */
export function copyDisk(services: Services): Step {
  const { host, images, snapshotFolders: folders, store } = services;
  const work = (context: StepContext, doing: string) => ({
    signal: context.signal,
    progress: (percent: number) => context.progress(Math.round(percent), doing),
  });
  return {
    name: "copy-disk",
    async run(context) {
      const { source } = ImageInput.parse(context.operation.input);
      if (source.type !== "snapshot") throw new Error("only a snapshot has a disk to copy");
      const { snapshot, folder } = await requireSnapshot(services, source.snapshotId);
      const image = await readImage(store.queries, snapshot.imageId);
      const [root] = snapshot.disks;
      if (!image?.startConfig || !root) throw new BerthError("not_found", `The image of ${snapshot.name} is gone.`);
      await requireSound(services, { folder, disks: [root.name], memory: false }, context.signal);
      const targetPath = await images.prepareDisk(context.operation.id);
      const sourcePath = folders.layerPath({ folder, disk: root.name });
      await flattenDisk(host, { sourcePath, targetPath, user: folders.user }, work(context, `copying ${root.name}`));
      const { os, architecture, startConfig } = image;
      const disk = await sumOfDisk(targetPath, work(context, "reading the copy"));
      const contentDigest = digestOf({ disk, os, architecture, startConfig });
      const contentBytes = await host.files.usedBytes(targetPath);
      const made = { contentDigest, os, architecture, startConfig };
      return { result: toJournal({ image: made, contentBytes, commit: null }) };
    },
    async undo(context) {
      await images.dropDisk(context.operation.id);
    },
  };
}

/** The name of what was promoted: of the disk and of how its process is started, as an image's manifest names both. */
function digestOf(content: {
  readonly disk: string;
  readonly os: string;
  readonly architecture: string;
  readonly startConfig: StartConfig;
}): string {
  const { disk, os, architecture, startConfig } = content;
  const text = JSON.stringify({ version: 1, disk, os, architecture, startConfig });
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}
