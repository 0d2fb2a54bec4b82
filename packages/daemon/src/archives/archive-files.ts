import { createHash } from "node:crypto";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { beginningBytes } from "@berth/api";
import type { Host } from "../host/host.ts";

/** The archives that are on this node: one file each, and nothing else of them. */
export class ArchiveFiles {
  readonly #host: Host;
  readonly #directory: string;

  constructor(options: { readonly host: Host; readonly directory: string }) {
    this.#host = options.host;
    this.#directory = options.directory;
  }

  /** Where an archive is once it is whole. */
  path(id: string): string {
    return join(this.#directory, `${id}.berth`);
  }

  /** Where it is while it is written. */
  halfPath(id: string): string {
    return `${this.path(id)}.new`;
  }

  /** Makes the folder. Users of instances pass through it to the one archive that is theirs for a moment, and see no other. */
  async prepare(): Promise<void> {
    await this.#host.files.makeDirectory(this.#directory, { mode: 0o711 });
  }

  /** How long a whole archive is; undefined when it is not there. */
  size(id: string): Promise<number | undefined> {
    return this.#host.files.size(this.path(id));
  }

  /** Gives what was written its name. */
  async keep(id: string): Promise<void> {
    await this.#host.files.rename(this.halfPath(id), this.path(id));
  }

  /** The bytes from `start` on, before `end`. */
  read(id: string, start: number, end: number): Readable {
    return this.#host.files.readStream(this.path(id), { start, end: end - 1 });
  }

  /** The digest that a copy is known by: see the API's Archive. */
  async beginning(id: string): Promise<string> {
    const hash = createHash("sha256");
    for await (const chunk of this.read(id, 0, beginningBytes)) hash.update(chunk as Buffer);
    return hash.digest("hex");
  }

  /** Removes an archive, whole or half; resolves when it is gone already. */
  async remove(id: string): Promise<void> {
    for (const path of [this.path(id), this.halfPath(id)]) await this.#host.files.remove(path);
  }
}
