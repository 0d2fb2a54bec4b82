import type { Step } from "../../operations/workflow.ts";
import { updateSnapshot } from "../../store/snapshots.ts";
import { describeSwitch, switchesOf } from "../disk-switch.ts";
import { saveSharedMemory } from "../save-memory.ts";
import type { Services } from "../services.ts";
import { snapshotInstance, targetSnapshot } from "../snapshot-record.ts";

/** Keeps the memory of the running machine, and lets it write to the overlays from that very moment on. */
export function saveMemory(services: Services): Step {
  const { snapshotFolders: folders, host } = services;
  return {
    name: "save-memory",
    async run(context) {
      const { snapshot, folder } = await targetSnapshot(services, context);
      const instance = await snapshotInstance(services, snapshot);
      const { disks } = await describeSwitch(services, instance, { keepIn: folder, standOn: null, tag: snapshot.id });
      const request = { folder: folders.memoryPath(folder), switches: switchesOf(disks) };
      context.progress(null, "copying memory while it runs");
      const { pausedMs } = await saveSharedMemory(services, instance, request, context.signal);
      context.progress(100, `stood still for ${Math.round(pausedMs)} ms`);
      const memoryBytes = await host.files.usedBytes(folders.memoryPath(folder));
      return {
        write: async (tx) => {
          await updateSnapshot(tx, snapshot.id, { memoryBytes });
        },
      };
    },
  };
}
