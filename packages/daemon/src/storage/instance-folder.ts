import { createHash } from "node:crypto";
import { join } from "node:path";
import type { HostUser } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";

/** A range of uids that one installation gives to its guests. */
export interface UserRange {
  readonly first: number;
  readonly last: number;
}

/**
 * Where an instance keeps everything it has on the host. `path` is the daemon's own: records and keys. `vmPath`, inside it, belongs to the user
 * that the hypervisor runs as (null when the daemon is not root) and holds disks, sockets and logs: whatever is in there may have been touched
 * by a guest that took over its hypervisor.
 */
export interface InstanceFolder {
  readonly path: string;
  readonly vmPath: string;
  readonly user: HostUser | null;
}

/** What makes a memory image whole (docs/adr/memory-images.md). */
const memoryRecord = "image.json";

const rangeSize = 16_384;
/** The uids that no system gives out: systemd's table "Users and Groups" leaves 0x70000000 to 0x7FFFFFFF unassigned. The first 65,536 are for builds. */
const firstUid = 0x70010000;
/** The last uids of a range are no guest's: the one of the trial machine that finds the accelerator, and before it nobody's. */
const keptUids = 2;
const ranges = 0x0fff0000 / rangeSize;

/** The uids of an installation's guests, the same each time; two installations on one host have different ones but by a chance of 1 in 16,384. */
export function userRange(installationId: string): UserRange {
  const index = createHash("sha256").update(installationId).digest().readUInt32BE(0) % ranges;
  const first = firstUid + index * rangeSize;
  return { first, last: first + rangeSize - 1 };
}

/** The lowest uid of the range that nobody holds; pure. */
export function freeUid(range: UserRange, held: ReadonlySet<number>): number {
  for (let uid = range.first; uid <= range.last; uid += 1) if (!held.has(uid)) return uid;
  throw new Error(`All ${range.last - range.first + 1} uids for guests are in use`);
}

/**
 * Makes and finds instance folders. As root each has a part that belongs to a uid of its own, and that part itself is the record of who holds which: nothing to
 * keep in step with it. One daemon owns a data folder, so its own queue is enough to give no uid twice.
 */
export class InstanceFolders {
  readonly #host: Host;
  readonly #root: string;
  readonly #range: UserRange | null;
  #last: Promise<unknown> = Promise.resolve();

  /** `root` holds one folder per instance; `range` is null when the daemon is not root. */
  constructor(options: { readonly host: Host; readonly root: string; readonly range: UserRange | null }) {
    this.#host = options.host;
    this.#root = options.root;
    this.#range = options.range;
  }

  /** A user of this installation that owns nothing and never will: for programs that read what nobody trusts. Null when the daemon is not root. */
  get nobody(): HostUser | null {
    return this.#range && this.#userOf(this.#range.last - 1);
  }

  path(instanceId: string): string {
    return join(this.#root, instanceId);
  }

  /** The instances that have a folder, or the beginning of one. */
  list(): Promise<readonly string[]> {
    return this.#host.files.list(this.#root);
  }

  /** The folder of an instance; undefined when it has none, or only a broken off beginning of one. */
  async find(instanceId: string): Promise<InstanceFolder | undefined> {
    const path = this.path(instanceId);
    const vmPath = join(path, "vm");
    const uid = await this.#host.files.owner(vmPath);
    if (uid === undefined) return undefined;
    const user = this.#userOf(uid);
    return this.#range && !user ? undefined : { path, vmPath, user };
  }

  /** The folder of an instance, made when it has none; its user is one that no other instance has. */
  create(instanceId: string): Promise<InstanceFolder> {
    const created = this.#last.then(() => this.#create(instanceId));
    this.#last = created.catch(() => {});
    return created;
  }

  /**
   * Where an instance's own memory is while it is suspended. While that is whole, its disks must stay exactly as they are: they are those that the memory knows.
   */
  memoryPath(instanceId: string): string {
    return join(this.path(instanceId), "memory");
  }

  /** The disk space of an instance's memory; null when it has none, or none that is whole. */
  async memoryBytes(instanceId: string): Promise<number | null> {
    const path = this.memoryPath(instanceId);
    const { files } = this.#host;
    return (await files.exists(join(path, memoryRecord))) ? files.usedBytes(path) : null;
  }

  /** Removes an instance's memory, whole or not; resolves when it is gone already. */
  async removeMemory(instanceId: string): Promise<void> {
    const path = this.memoryPath(instanceId);
    // Without its record it is nothing at once, however long the rest takes.
    await this.#host.files.remove(join(path, memoryRecord));
    await this.#host.files.remove(path);
  }

  /** Removes the folder with all that is in it; resolves when it is gone already. */
  async remove(instanceId: string): Promise<void> {
    await this.#host.files.remove(this.path(instanceId));
  }

  async #create(instanceId: string): Promise<InstanceFolder> {
    const there = await this.find(instanceId);
    if (there) return there;
    const user = this.#range
      ? this.#userOf(freeUid({ ...this.#range, last: this.#range.last - keptUids }, await this.#held()))
      : null;
    const path = this.path(instanceId);
    const vmPath = join(path, "vm");
    // Others may pass through to what is theirs, and see nothing on the way.
    const mode = this.#range ? 0o711 : 0o700;
    await this.#host.files.makeDirectory(this.#root, { mode });
    await this.#host.files.makeDirectory(path, { mode });
    await this.#host.files.makeDirectory(vmPath, { mode: 0o700, ...user });
    return { path, vmPath, user };
  }

  #userOf(uid: number): HostUser | null {
    return this.#range && uid >= this.#range.first && uid <= this.#range.last ? { uid, gid: uid } : null;
  }

  async #held(): Promise<ReadonlySet<number>> {
    const names = await this.#host.files.list(this.#root);
    const owners = await Promise.all(names.map((name) => this.#host.files.owner(join(this.#root, name, "vm"))));
    // A process may still run as the uid of a folder that is gone, and another installation may have the same range.
    const running = await this.#host.uids();
    return new Set([...owners, ...running].filter((uid) => uid !== undefined));
  }
}
