import { join } from "node:path";
import type { HostUser } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import { placeDisk } from "./qcow2.ts";

/** Where templates are kept, a folder each: the daemon's own, no machine's user reaches it. */
export class TemplateFolders {
  readonly #host: Host;
  readonly #root: string;

  constructor(host: Host, root: string) {
    this.#host = host;
    this.#root = root;
  }

  /** Where a template's memory is, or is to be put. */
  memoryPath(templateId: string): string {
    return join(this.#path(templateId), "memory");
  }

  /** Makes a template's folder. */
  async create(templateId: string): Promise<void> {
    await this.#host.files.makeDirectory(this.#root, { mode: 0o700 });
    await this.#host.files.makeDirectory(this.#path(templateId), { mode: 0o700 });
  }

  /** Keeps what was written to a disk until the template's memory was saved. The same again changes nothing. */
  async keepDisk(templateId: string, disk: string, path: string, signal: AbortSignal): Promise<void> {
    await this.#copy(path, this.#diskPath(templateId, disk), null, signal);
  }

  /** Gives a machine's user a copy of a disk as it was then, unless it is there already. */
  async copyDisk(
    templateId: string,
    disk: string,
    to: { readonly path: string; readonly user: HostUser | null },
    signal: AbortSignal,
  ): Promise<void> {
    await this.#copy(this.#diskPath(templateId, disk), to.path, to.user, signal);
  }

  /** Whether a file in a machine's folder, whose owner may be hostile, is a disk as it was then, byte for byte. */
  async isDisk(templateId: string, disk: string, folder: string, fileName: string): Promise<boolean> {
    const { files } = this.#host;
    if (!(await files.exists(this.#path(templateId)))) return false;
    const kept = await files.openUntrusted(this.#path(templateId), diskFile(disk));
    const other = await files.openUntrusted(folder, fileName);
    try {
      for (let position = 0; kept && other; ) {
        const [one, two] = await Promise.all([kept.read(position), other.read(position)]);
        if (Buffer.compare(one, two) !== 0) return false;
        if (one.length === 0) return true;
        position += one.length;
      }
      return false;
    } finally {
      await kept?.close();
      await other?.close();
    }
  }

  /** What a template takes on the disk, in bytes. */
  usedBytes(templateId: string): Promise<number> {
    return this.#host.files.usedBytes(this.#path(templateId));
  }

  /** Removes a template's folder with all that is in it; resolves when it is gone already. */
  async remove(templateId: string): Promise<void> {
    const path = this.#path(templateId);
    if (await this.#host.files.exists(path)) await this.#host.files.remove(path);
  }

  /** A copy that shares what the file system lets it share, and appears whole. */
  async #copy(from: string, to: string, user: HostUser | null, signal: AbortSignal): Promise<void> {
    const { files } = this.#host;
    if (await files.exists(to)) return;
    const half = `${to}.new`;
    await files.remove(half);
    await this.#host.run("cp", ["--reflink=auto", "--sparse=always", "--no-dereference", from, half], { signal });
    await files.chmod(half, 0o600);
    if (user) await files.chown(half, user.uid, user.gid);
    await placeDisk(this.#host, half, to);
  }

  #diskPath(templateId: string, disk: string): string {
    return join(this.#path(templateId), diskFile(disk));
  }

  #path(templateId: string): string {
    return join(this.#root, templateId);
  }
}

function diskFile(disk: string): string {
  return `${disk}.qcow2`;
}
