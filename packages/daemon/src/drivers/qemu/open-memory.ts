import { createHash } from "node:crypto";
import { buffer } from "node:stream/consumers";
import type { KitDescription } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import type { CreateInputs, MemorySource } from "../driver.ts";
import { memoryPaths, memoryUnusable, requireChecksum, requireMemoryImage, sha256, shapeOf } from "../memory-image.ts";
import type { AcceleratorKind } from "./command-line.ts";
import type { OpenMemory } from "./machine.ts";
import { sumMemory } from "./memory-tool.ts";
import type { SealedCache } from "./sealed-cache.ts";

/** Raised when the devices of `command-line.ts` change: memory saved with others does not fit. */
const layoutVersion = 1;

/** What opening memory takes. */
export interface OpenParts {
  readonly host: Host;
  readonly sealed: SealedCache;
  readonly build: string;
  readonly signal: AbortSignal;
}

/**
 * Checks all of a memory image and opens it for a machine: memory that many go on from by a sealed copy, memory of its own as the file itself, which QEMU maps so that nothing reaches it.
 * Rejects with `memory_unusable`.
 */
export async function openMemory(
  { host, sealed, build, signal }: OpenParts,
  inputs: CreateInputs,
  { folder, use }: MemorySource,
): Promise<OpenMemory> {
  const { files } = host;
  const { kit } = inputs;
  if (!kit) throw memoryUnusable("the machine boots no kit");
  const image = await requireMemoryImage(files, folder, shapeOf(inputs, build));
  const paths = memoryPaths(folder);
  requireChecksum("state", image, sha256(await buffer(files.readStream(paths.state))));
  const ramFd = use === "shared" ? await sealed.open(folder, image, kit, signal) : await openOwn();
  try {
    return { ramFd, stateFd: await files.openDescriptor(paths.state) };
  } catch (error) {
    await files.closeDescriptor(ramFd);
    throw error;
  }

  async function openOwn(): Promise<number> {
    requireChecksum("ram", image, await sumMemory(host, kit as KitDescription, paths.ram, signal));
    return files.openDescriptor(paths.ram, "read-write");
  }
}

/** Names all that memory depends on here: QEMU by its own words, the devices, how guests are run and by what processor, and the kit. */
export function buildNames(host: Host, qemu: string) {
  let version: { readonly of: string; readonly words: string } | undefined;
  return async (kind: AcceleratorKind, kit: KitDescription | null): Promise<string> => {
    const path = (await host.find(qemu)) ?? qemu;
    const of = (await host.files.identity(path)) ?? "";
    if (version?.of !== of) version = { of, words: await versionOf(host, qemu) };
    const processor = kind === "kvm" ? `kvm ${await processorOf(host)}` : kind;
    return [version.words, `devices ${layoutVersion}`, processor, `kit ${kit?.buildId ?? "none"}`].join(", ");
  };
}

async function versionOf(host: Host, qemu: string): Promise<string> {
  const { stdout } = await host.run(qemu, ["--version"]);
  return stdout.split("\n", 1)[0]?.trim() ?? "";
}

/** What the guest sees of the processor when it has the host's own. */
async function processorOf(host: Host): Promise<string> {
  const text = (await host.files.readText("/proc/cpuinfo")) ?? "";
  const facts = [...text.matchAll(/^(?:model name|microcode|flags)\s*:.*$/gm)].map(([line]) => line);
  return createHash("sha256")
    .update([...new Set(facts)].join("\n"))
    .digest("hex")
    .slice(0, 16);
}
