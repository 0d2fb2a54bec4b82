import { keepGrown } from "../../core/change-instance.ts";
import type { Step } from "../../operations/workflow.ts";
import { lockInstance, readOpenChanges, readRun, updateInstance } from "../../store/instances.ts";
import { askGuest } from "../reach-guest.ts";
import type { Services } from "../services.ts";
import { requireHandle, targetInstance } from "./step.ts";

/** How long a guest may take to be reached, and then to grow its file system, in milliseconds. */
const growMs = 60_000;
const mebibyte = 1024 * 1024;

/**
 * Grows the root disk of a machine that runs, and has its guest grow the file system on it. A guest that does not, does so at its next start. There is nothing to take back:
 * what has grown is never made smaller, and stays as large when the change fails.
 */
export function growDisk(services: Services): Step {
  const { guests } = services;
  return {
    name: "grow-disk",
    async run(context) {
      const instance = await targetInstance(services, context);
      const driver = services.driver(instance.location);
      const handle = await requireHandle(services, instance);
      const [root] = instance.spec.disks;
      if (!root || !driver.growDisk) return undefined;
      const { sizeMib: diskMib } = root;
      const { signal } = context;
      for (const { name, sizeMib } of instance.spec.disks) await driver.growDisk(handle, name, sizeMib);
      if (driver.abilities.channel) {
        try {
          const machine = { instance, driver, handle };
          const bytes = instance.spec.disks.map(({ sizeMib }) => sizeMib * mebibyte);
          await askGuest(services, machine, { ms: growMs, signal }, (limit) => guests.grow(instance.id, bytes, limit));
        } catch (error) {
          if (signal.aborted) throw error;
          context.log(`its guest grows the file system at its next start: ${(error as Error).message}`);
          return undefined;
        }
      }
      return {
        write: async (tx) => {
          await lockInstance(tx, instance.id);
          const [run, open] = [await readRun(tx, instance.id), await readOpenChanges(tx, instance.id)];
          await updateInstance(tx, instance.id, {
            ...(run ? { run: { ...run, diskMib } } : {}),
            ...(open ? { openChanges: keepGrown(open, diskMib) } : {}),
          });
        },
      };
    },
  };
}
