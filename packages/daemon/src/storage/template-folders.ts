import { join } from "node:path";
import type { Host } from "../host/host.ts";

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

  /** What a template takes on the disk, in bytes. */
  usedBytes(templateId: string): Promise<number> {
    return this.#host.files.usedBytes(this.#path(templateId));
  }

  /** Removes a template's folder with all that is in it; resolves when it is gone already. */
  async remove(templateId: string): Promise<void> {
    const path = this.#path(templateId);
    if (await this.#host.files.exists(path)) await this.#host.files.remove(path);
  }

  #path(templateId: string): string {
    return join(this.#root, templateId);
  }
}
