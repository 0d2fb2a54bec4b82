import { createHash } from "node:crypto";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { BerthError, beginningBytes } from "@berth/api";
import type { HostUser } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import { receive } from "./receive.ts";

/** The next part of an archive that is being sent here. */
export interface NextPart {
  readonly id: string;
  /** How much the sender believes is here. */
  readonly offset: number;
  /** How long the archive shall be. */
  readonly sizeBytes: number;
  readonly body: Readable;
}

/** The archives that are on this node: one file each, and nothing else of them. */
export class ArchiveFiles {
  readonly #host: Host;
  readonly #directory: string;
  /** Who sends which archive now. */
  readonly #senders = new Map<string, { readonly leave: AbortController; readonly done: Promise<unknown> }>();

  constructor(options: { readonly host: Host; readonly directory: string }) {
    this.#host = options.host;
    this.#directory = options.directory;
  }

  /** Where an archive is once it is whole. */
  path(id: string): string {
    return join(this.#directory, `${id}.berth`);
  }

  /** Where one is while it is written here; what is sent from elsewhere grows under its own name. */
  halfPath(id: string): string {
    return `${this.path(id)}.new`;
  }

  /** Makes the folder. Users of instances pass through it to the one archive that is theirs for a moment, and see no other. */
  async prepare(): Promise<void> {
    await this.#host.files.makeDirectory(this.#directory, { mode: 0o711 });
  }

  /** How long an archive is by now; undefined when nothing of it is there under its name. */
  size(id: string): Promise<number | undefined> {
    return this.#host.files.size(this.path(id));
  }

  /** Gives what was written its name. */
  async keep(id: string): Promise<void> {
    await this.#host.files.renameSynced(this.halfPath(id), this.path(id));
  }

  /**
   * Takes the next part of an archive that is sent here; resolves with how much has arrived then. One who sends again takes the place of the connection before, which
   * may be dead. Rejects with `upload_offset` when another part is expected, `body_too_large` when there is more than was announced.
   */
  async receive(part: NextPart, signal: AbortSignal, told: () => void): Promise<number> {
    const { id } = part;
    const leave = new AbortController();
    const before = this.#senders.get(id);
    const done = this.#receive(part, AbortSignal.any([signal, leave.signal]), told, before?.done);
    this.#senders.set(id, { leave, done });
    before?.leave.abort(new BerthError("cancelled", "The same archive is sent by another request."));
    try {
      return await done;
    } finally {
      if (this.#senders.get(id)?.leave === leave) this.#senders.delete(id);
    }
  }

  async #receive(
    { id, offset, sizeBytes, body }: NextPart,
    signal: AbortSignal,
    told: () => void,
    before: Promise<unknown> | undefined,
  ): Promise<number> {
    await before?.catch(() => undefined);
    const here = (await this.size(id)) ?? 0;
    if (here !== offset) throw new BerthError("upload_offset", `${here} bytes have arrived, not ${offset}.`);
    await this.prepare();
    await receive({ path: this.path(id), offset, sizeBytes }, body, signal, told);
    return (await this.size(id)) ?? 0;
  }

  /** Lets a user, and no other, read an archive while something is done; null when the daemon is not root, and all is done as one user. */
  async lend<T>(id: string, user: HostUser | null, work: () => Promise<T>): Promise<T> {
    if (!user) return work();
    const { files } = this.#host;
    const path = this.path(id);
    await files.chown(path, 0, user.gid);
    await files.chmod(path, 0o640);
    try {
      return await work();
    } finally {
      await files.chmod(path, 0o600);
      await files.chown(path, 0, 0);
    }
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
