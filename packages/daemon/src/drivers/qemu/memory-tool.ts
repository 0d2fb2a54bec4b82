import { once } from "node:events";
import { createInterface } from "node:readline";
import { BerthError } from "@berth/api";
import type { KitDescription } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";

/** A guest's memory that nobody can change any more, and what its checksum is. */
export interface SealedMemory {
  /** Of this daemon; whoever takes it closes it. */
  readonly fd: number;
  readonly checksum: string;
}

/** The checksum of a guest's memory file. Rejects with a ProgramError when it cannot be read. */
export async function sumMemory(host: Host, kit: KitDescription, path: string, signal: AbortSignal): Promise<string> {
  const { stdout } = await host.run(toolOf(kit), ["sum", path], { signal, timeoutMs: slowestMs });
  return stdout.trim();
}

/**
 * Copies a guest's memory file into a write-sealed memfd: memory of the node that has no name and that nobody, not even this daemon, can write to. The program that made it is asked
 * for a descriptor, and ends.
 */
export async function sealMemory(
  host: Host,
  kit: KitDescription,
  path: string,
  signal: AbortSignal,
): Promise<SealedMemory> {
  const tool = host.start(toolOf(kit), ["seal", path], { signal, timeoutMs: slowestMs });
  const lines = createInterface({ input: tool.stdout });
  try {
    const [line] = (await Promise.race([once(lines, "line"), tool.done.then(() => [""])])) as [string];
    const [, fd, checksum] = /^(\d+) (\S+)$/.exec(line) ?? [];
    if (fd === undefined || checksum === undefined) throw new Error(`memory-file said "${line}"`);
    return { fd: await host.files.openDescriptor(`/proc/${tool.pid}/fd/${fd}`), checksum };
  } finally {
    lines.close();
    tool.stdin.end();
    await tool.done.catch(() => {});
  }
}

/** Reading and copying run at the speed of the disk; a slow one may have gigabytes. */
const slowestMs = 300_000;

function toolOf(kit: KitDescription): string {
  if (kit.memoryToolPath !== undefined) return kit.memoryToolPath;
  throw new BerthError("memory_unusable", "The kit that the machine was made with is too old to save memory with.");
}
