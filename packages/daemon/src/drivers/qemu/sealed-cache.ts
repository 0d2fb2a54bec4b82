import type { KitDescription } from "../../core/descriptions.ts";
import type { Host } from "../../host/host.ts";
import { type MemoryImage, memoryPaths, requireChecksum } from "../memory-image.ts";
import { sealMemory } from "./memory-tool.ts";

interface Entry {
  readonly bytes: number;
  readonly fd: Promise<number>;
  /** How many wait for it or are about to take it: it is not closed under their hands. */
  takers: number;
}

/**
 * The memory images that machines were last begun from, sealed in the node's memory, so that the next one begins at once. Bounded: those used longest ago go first, and those whose
 * folder is gone. Machines that run keep theirs; only the daemon's descriptor is closed. A daemon that ends lets go of all.
 */
export class SealedCache {
  readonly #host: Host;
  readonly #maxBytes: number;
  /** By folder and what is in it; those used last come last. */
  readonly #entries = new Map<string, Entry>();

  constructor(host: Host, maxBytes: number) {
    this.#host = host;
    this.#maxBytes = maxBytes;
  }

  /** A new descriptor of the image's memory, sealed; whoever takes it closes it. Rejects with `memory_unusable` for one that is damaged. */
  async open(folder: string, image: MemoryImage, kit: KitDescription, signal: AbortSignal): Promise<number> {
    const { files } = this.#host;
    await this.sweep();
    const key = keyOf(folder, image);
    // Who waits for it is another question than whether it is made: the next one may want it too.
    const entry = this.#entries.get(key) ?? { bytes: image.ram.bytes, fd: this.#seal(folder, image, kit), takers: 0 };
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    entry.takers += 1;
    try {
      const fd = await entry.fd;
      signal.throwIfAborted();
      // Another descriptor of the same memory, through this daemon's own.
      return await files.openDescriptor(`/proc/self/fd/${fd}`);
    } finally {
      entry.takers -= 1;
      this.#shrink();
    }
  }

  /** Lets go of those whose folder is gone. */
  async sweep(): Promise<void> {
    for (const key of [...this.#entries.keys()]) {
      if (!(await this.#host.files.exists(folderOf(key)))) this.#close(key);
    }
  }

  /** How many bytes of guests' memory are kept; what is sparse of it takes less. */
  get bytes(): number {
    return [...this.#entries.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  async #seal(folder: string, image: MemoryImage, kit: KitDescription): Promise<number> {
    try {
      return await this.#sealed(folder, image, kit);
    } catch (error) {
      this.#entries.delete(keyOf(folder, image));
      throw error;
    }
  }

  async #sealed(folder: string, image: MemoryImage, kit: KitDescription): Promise<number> {
    const sealed = await sealMemory(this.#host, kit, memoryPaths(folder).ram, AbortSignal.timeout(sealTimeoutMs));
    try {
      requireChecksum("ram", image, sealed.checksum);
      return sealed.fd;
    } catch (error) {
      await this.#host.files.closeDescriptor(sealed.fd);
      throw error;
    }
  }

  /** The one used last stays, whatever its size. */
  #shrink(): void {
    for (const key of [...this.#entries.keys()].slice(0, -1)) if (this.bytes > this.#maxBytes) this.#close(key);
  }

  #close(key: string): void {
    const entry = this.#entries.get(key);
    if (!entry || entry.takers > 0) return;
    this.#entries.delete(key);
    entry.fd.then(
      (fd) => this.#host.files.closeDescriptor(fd),
      () => {},
    );
  }
}

const sealTimeoutMs = 300_000;

/** An image that was made anew in the same folder is another one. */
function keyOf(folder: string, image: MemoryImage): string {
  return `${folder}\0${image.savedAt} ${image.ram.checksum}`;
}

function folderOf(key: string): string {
  return key.slice(0, key.indexOf("\0"));
}
