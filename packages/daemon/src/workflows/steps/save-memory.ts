import { z } from "zod";
import type { Journal, Step } from "../../operations/workflow.ts";
import { describeSwitch, switchesOf } from "../disk-switch.ts";
import type { FindMoment } from "../moment.ts";
import { saveSharedMemory } from "../save-memory.ts";
import type { Services } from "../services.ts";

const Saved = z.object({ pausedMs: z.number() });

/** How long the machine stood still for it, in milliseconds; null when its memory was not saved. */
export function pausedMsOf(journal: Journal): number | null {
  return Saved.safeParse(journal.get("save-memory")?.result).data?.pausedMs ?? null;
}

/** Keeps the memory of the running machine, and lets it write to the overlays from that very moment on. */
export function saveMemory(services: Services, find: FindMoment): Step {
  const { snapshotFolders: folders, host } = services;
  return {
    name: "save-memory",
    async run(context) {
      const { folder, owner, tag, ...moment } = await find(context);
      const instance = await moment.instance();
      const { disks } = await describeSwitch(services, instance, { keepIn: folder, standOn: null, tag });
      // A fork's children go on from it at once, and then it goes.
      const passing = "forkOf" in owner;
      const request = { folder: folders.memoryPath(folder), passing, switches: switchesOf(disks) };
      context.progress(null, "copying memory while it runs");
      const { pausedMs } = await saveSharedMemory(services, instance, request, context.signal);
      context.progress(100, `stood still for ${Math.round(pausedMs)} ms`);
      const memoryBytes = await host.files.usedBytes(folders.memoryPath(folder));
      return {
        result: { pausedMs } satisfies z.infer<typeof Saved>,
        write: (tx) => moment.record(tx, { memoryBytes }),
      };
    },
  };
}
