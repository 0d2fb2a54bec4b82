import { buffer } from "node:stream/consumers";
import { z } from "zod";
import type { Host, HostFiles } from "../../host/host.ts";
import type { SaveMemoryRequest } from "../driver.ts";
import {
  type MemoryImage,
  memoryPaths,
  memoryUnusable,
  requestOf,
  requireChecksum,
  requireMemoryImage,
  sha256,
} from "../memory-image.ts";
import type { Run } from "./machine.ts";
import type { GuestFile } from "./world.ts";

/** All that a fake guest has in its memory: how far its run has come, and its files. */
export interface GuestMemory {
  readonly run: Run;
  readonly files: Readonly<Record<string, GuestFile>>;
}

const State = z.object({ device: z.literal("fake") });
const Ram = z.looseObject({ run: z.looseObject({}), files: z.looseObject({}) });

type Shape = Pick<MemoryImage, "build" | "cpus" | "memoryMib" | "disks" | "interfaces">;

/** Writes a memory image into a folder beside its place and moves it there when it is whole. `damage`: with a byte that is not the guest's. */
export async function writeMemory(
  files: HostFiles,
  request: Pick<SaveMemoryRequest, "folder" | "switches" | "use">,
  facts: { readonly memory: GuestMemory; readonly shape: Shape; readonly pausedMs: number; readonly damage: boolean },
): Promise<void> {
  const half = `${request.folder}.half`;
  const paths = memoryPaths(half);
  const ram = Buffer.from(JSON.stringify(facts.memory));
  const state = Buffer.from(JSON.stringify({ device: "fake" } satisfies z.infer<typeof State>));
  const image: MemoryImage = {
    version: 1,
    ...facts.shape,
    savedAt: Date.now(),
    pausedMs: facts.pausedMs,
    request: requestOf(request.switches),
    ram: { bytes: ram.length, checksum: sha256(ram) },
    state: { bytes: state.length, checksum: sha256(state) },
  };
  if (facts.damage) ram.writeUInt8(ram.readUInt8(0) ^ 1, 0);
  const mode = request.use === "shared" ? 0o400 : 0o600;
  await files.remove(half);
  await files.makeDirectory(half, { mode: 0o700 });
  await files.writeAtomic(paths.ram, ram, { mode });
  await files.writeAtomic(paths.state, state, { mode });
  await files.writeAtomic(paths.record, JSON.stringify(image));
  await files.remove(request.folder);
  await files.rename(half, request.folder);
}

/** Reads a memory image for a machine of this shape. Rejects with `memory_unusable`. */
export async function readMemory(files: HostFiles, folder: string, shape: Shape): Promise<GuestMemory> {
  const image = await requireMemoryImage(files, folder, shape);
  const paths = memoryPaths(folder);
  const [ram, state] = await Promise.all([buffer(files.readStream(paths.ram)), buffer(files.readStream(paths.state))]);
  requireChecksum("ram", image, sha256(ram));
  requireChecksum("state", image, sha256(state));
  if (!State.safeParse(parse(state)).success) throw memoryUnusable("its state is no fake machine's");
  const memory = Ram.safeParse(parse(ram)).data;
  if (!memory) throw memoryUnusable("its ram is no fake machine's");
  return memory as unknown as GuestMemory;
}

/** Grows a disk as a hypervisor does while it runs; the fake holds no lock on it. One as large already stays as it is. */
export async function growDiskFile(
  host: Pick<Host, "run">,
  disk: { readonly path: string; readonly format: string },
  sizeMib: number,
): Promise<void> {
  const { stdout } = await host.run("qemu-img", ["info", "--output=json", "-f", disk.format, disk.path]);
  const { "virtual-size": present } = z.object({ "virtual-size": z.number() }).parse(JSON.parse(stdout));
  const wanted = sizeMib * 1024 * 1024;
  if (wanted > present) await host.run("qemu-img", ["resize", "-q", "-f", disk.format, disk.path, String(wanted)]);
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return undefined;
  }
}
