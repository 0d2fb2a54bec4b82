import { join } from "node:path";

/** Where an instance's disk is in its folder. */
export function diskPath(folder: string, diskName: string): string {
  return join(folder, `${diskName}.qcow2`);
}
