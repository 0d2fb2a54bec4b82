import { join } from "node:path";

/** The file that a disk is in. */
export function diskFile(diskName: string): string {
  return `${diskName}.qcow2`;
}

/** Where an instance's disk is in the part of its folder that its machine may write to. */
export function diskPath(vmPath: string, diskName: string): string {
  return join(vmPath, diskFile(diskName));
}
