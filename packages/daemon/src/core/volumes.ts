import type { DiskSpec, StartConfig } from "@berth/api";

/** The disk that an instance's volumes live on, so that they outlive its root disk. Only instances of images with volumes have one. */
export const volumesDisk = "volumes";

/** Where an image's volumes are (VOLUME in a Dockerfile), parents before what is in them; what names the root itself is none. */
export function volumePaths({ volumes }: Pick<StartConfig, "volumes">): string[] {
  return [...new Set(volumes.map(normalize))].filter((path) => path !== "/").toSorted();
}

/** As the kernel would read it from the root. */
function normalize(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/** The disks of an instance of this image, given those it has: with one for its volumes, as large as its root disk, where it needs one and has none. */
export function withVolumes(disks: readonly DiskSpec[], image: Pick<StartConfig, "volumes"> | null): DiskSpec[] {
  const [root] = disks;
  const isNeeded = root !== undefined && image !== null && volumePaths(image).length > 0 && !hasVolumes(disks);
  return isNeeded ? [...disks, { name: volumesDisk, sizeMib: root.sizeMib }] : [...disks];
}

/** Whether an instance has a disk for its volumes. */
export function hasVolumes(disks: readonly Pick<DiskSpec, "name">[]): boolean {
  return disks.some(({ name }) => name === volumesDisk);
}
