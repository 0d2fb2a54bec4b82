import { BerthError, type Instance } from "@berth/api";
import type { Step } from "../../operations/workflow.ts";
import { suspendedError } from "../export-input.ts";
import { diskPath } from "../instance-paths.ts";
import { findHandle } from "../observe-instance.ts";
import { archiving } from "../pack-archive.ts";
import type { Services } from "../services.ts";
import { targetInstance } from "./step.ts";

/** Writes an instance that is off into an archive. */
export function writeArchive(services: Services): Step {
  return archiving(services, async (context) => {
    const instance = await targetInstance(services, context);
    await requireOff(services, instance);
    const { id, name, labels, imageId, image, spec } = instance;
    const folder = await services.folders.find(id);
    if (!folder) throw new BerthError("disk_missing", `The disks of ${name} are gone from the node's data folder.`);
    const { vmPath, user } = folder;
    return { name, labels, imageId, image, spec, user, diskPath: (disk) => diskPath(vmPath, disk) };
  });
}

/** The operation holds the instance, so what is off stays off. */
async function requireOff(services: Services, instance: Instance): Promise<void> {
  const handle = await findHandle(services, instance);
  if (handle && (await services.driver(instance.location).inspect(handle)).power !== "stopped")
    throw new BerthError("instance_running", `${instance.name} is on; its disks change while they are read.`);
  if ((await services.folders.memoryBytes(instance.id)) !== null) throw suspendedError(instance.name);
}
