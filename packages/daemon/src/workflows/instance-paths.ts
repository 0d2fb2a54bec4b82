import { join } from "node:path";

/** Where an instance's disk is in the part of its folder that its machine may write to. */
export function diskPath(vmPath: string, diskName: string): string {
  return join(vmPath, `${diskName}.qcow2`);
}
