import { join } from "node:path";

/** The file that a disk is in. */
export function diskFile(diskName: string): string {
  return `${diskName}.qcow2`;
}

/** Where an instance's disk is in the part of its folder that its machine may write to. */
export function diskPath(vmPath: string, diskName: string): string {
  return join(vmPath, diskFile(diskName));
}

/** Where the file is that is about to take the disk's place; `tag` is not used for this disk a second time. */
export function nextDiskPath(vmPath: string, diskName: string, tag: string): string {
  return `${diskPath(vmPath, diskName)}.next-${tag}`;
}
