import { createHash } from "node:crypto";
import { join } from "node:path";
import { BerthError } from "@berth/api";
import { z } from "zod";
import type { HostFiles } from "../host/host.ts";
import type { CreateInputs, DiskSwitch } from "./driver.ts";

const Part = z.object({
  /** The file's length. */
  bytes: z.number().int().min(0),
  /** The way it is made, a colon, and it. */
  checksum: z.string(),
});

/** `image.json`: what machine a memory image fits, and what its files must be. It is written last, so a folder that has one is whole. */
const MemoryImage = z.object({
  version: z.literal(1),
  /** `Driver.memoryBuild` when it was saved. */
  build: z.string(),
  cpus: z.number().int(),
  memoryMib: z.number().int(),
  disks: z.number().int(),
  interfaces: z.number().int(),
  /** Milliseconds since the epoch. */
  savedAt: z.number(),
  pausedMs: z.number(),
  /** Which request made it (`requestOf`): the same one, called again, finds it done. */
  request: z.string(),
  ram: Part,
  state: Part,
});
export type MemoryImage = z.infer<typeof MemoryImage>;

/** Where the parts of a memory image are. */
export function memoryPaths(folder: string) {
  return { ram: join(folder, "ram"), state: join(folder, "state"), record: join(folder, "image.json") } as const;
}

/** Names a request to save by the disks that it switches; pure. */
export function requestOf(switches: readonly DiskSwitch[]): string {
  const named = switches.map(({ disk, overlayPath }) => [disk, overlayPath]);
  return createHash("sha256").update(JSON.stringify(named)).digest("hex");
}

/** What must be equal for a machine to go on from an image; pure. */
export function shapeOf(
  inputs: Pick<CreateInputs, "cpus" | "memoryMib"> & Readonly<Record<"disks" | "nics", { readonly length: number }>>,
  build: string,
): Pick<MemoryImage, "build" | "cpus" | "memoryMib" | "disks" | "interfaces"> {
  const { cpus, memoryMib, disks, nics } = inputs;
  return { build, cpus, memoryMib, disks: disks.length, interfaces: nics.length };
}

/** The record of the image in a folder; undefined when there is none, or it is not whole. */
export async function readMemoryImage(files: HostFiles, folder: string): Promise<MemoryImage | undefined> {
  const text = await files.readText(memoryPaths(folder).record);
  if (text === undefined) return undefined;
  try {
    return MemoryImage.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** The record of an image that a machine of this shape can go on from. Throws `memory_unusable` for a missing one, another machine's, and one whose files were cut short. */
export async function requireMemoryImage(
  files: HostFiles,
  folder: string,
  shape: ReturnType<typeof shapeOf>,
): Promise<MemoryImage> {
  const image = await readMemoryImage(files, folder);
  if (!image) throw memoryUnusable("it is not there, or not whole");
  for (const key of ["build", "cpus", "memoryMib", "disks", "interfaces"] as const) {
    if (image[key] !== shape[key]) throw memoryUnusable(`its ${key} is ${image[key]}, the machine's ${shape[key]}`);
  }
  const paths = memoryPaths(folder);
  for (const part of ["ram", "state"] as const) {
    const bytes = await files.size(paths[part]);
    if (bytes !== image[part].bytes)
      throw memoryUnusable(`its ${part} has ${bytes ?? "no"} bytes of ${image[part].bytes}`);
  }
  return image;
}

/** Throws unless that is the checksum the record has. */
export function requireChecksum(part: "ram" | "state", image: MemoryImage, checksum: string): void {
  if (image[part].checksum !== checksum) throw memoryUnusable(`its ${part} is damaged`);
}

/** What a hash of bytes is called in a record. */
export function sha256(content: Uint8Array): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

/** The error of memory that no machine may go on from; `why` is for people, without a full stop. Whoever gets it can boot from the disks instead. */
export function memoryUnusable(why: string): BerthError {
  return new BerthError("memory_unusable", `The saved memory cannot be gone on from: ${why}.`);
}

/** For a save that a crash cut off after the disks were switched: they have moved on from the moment the memory would be of. */
export function momentPassed(): BerthError {
  return new BerthError(
    "host_program_failed",
    "The disks were switched, but the memory of that moment was never whole: it is gone. Save once more.",
  );
}
