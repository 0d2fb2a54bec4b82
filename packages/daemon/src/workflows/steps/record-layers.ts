import type { Step } from "../../operations/workflow.ts";
import { recordLayers as record } from "../../storage/layer-records.ts";
import type { Services } from "../services.ts";
import { targetSnapshot } from "../snapshot-record.ts";

/** Writes down the checksums of the snapshot's files, by which it is known later whether they are what they were. */
export function recordLayers(services: Services): Step {
  const { host, snapshotFolders } = services;
  return {
    name: "record-layers",
    async run(context) {
      const { folder } = await targetSnapshot(services, context);
      const onFile = (disk: string) => context.progress(null, `reading ${disk}`);
      await record(host, snapshotFolders, folder, { signal: context.signal, onFile });
      return undefined;
    },
  };
}
