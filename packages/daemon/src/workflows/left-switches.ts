import { join } from "node:path";
import type { Instance } from "@berth/api";
import { removeOverlay } from "../storage/qcow2.ts";
import { diskFile, diskPath } from "./instance-paths.ts";
import { findHandle } from "./observe-instance.ts";
import type { Services } from "./services.ts";

/**
 * Ends what a switch of disks left half done that could not even be undone. While the machine runs it says itself which file it writes to; when it is off, what was made to take a
 * disk's place is the disk: it shows the same, and what was written to it since.
 */
export async function settleLeftSwitches(services: Services, instance: Instance): Promise<void> {
  const { folders, host } = services;
  const folder = await folders.find(instance.id);
  if (!folder) return;
  const names = await host.files.list(folder.vmPath);
  for (const { name: disk } of instance.spec.disks) {
    const left = names.filter((name) => name.startsWith(`${diskFile(disk)}.next-`));
    for (const name of left) {
      const path = join(folder.vmPath, name);
      // One with a second name is a file that was kept already: it was only called so for the moment of a switch.
      const isOther = name.endsWith(".new") || ((await host.files.facts(path))?.names ?? 0) > 1;
      if (!isOther && (await isDisk(services, instance, disk, path)))
        await host.files.rename(path, diskPath(folder.vmPath, disk));
      else await removeOverlay(host, path);
    }
  }
}

async function isDisk(services: Services, instance: Instance, disk: string, path: string): Promise<boolean> {
  const driver = services.driver(instance.location);
  const handle = await findHandle(services, instance);
  const power = handle ? (await driver.inspect(handle)).power : "stopped";
  if (!handle || power === "stopped") return true;
  const active = await driver.activeDisks?.(handle);
  return active?.[disk] === path;
}
