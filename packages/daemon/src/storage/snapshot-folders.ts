import { randomBytes } from "node:crypto";
import { basename, dirname, join } from "node:path";
import type { HostUser } from "../core/descriptions.ts";
import type { Layer, LayerRef } from "../core/layers.ts";
import type { Host } from "../host/host.ts";
import { maxHeaderBytes, parseQcow2Header } from "./qcow2-header.ts";

const suffix = ".qcow2";
const halfSuffix = ".half";
const replacedInfix = ".replaced-";

/** A layer's former file, which shows the same as the present one. */
export interface Replaced {
  readonly path: string;
  readonly ref: LayerRef;
  /** What it stands on: that must stay as long as it does. */
  readonly below: LayerRef | null;
}

/** The name of a new snapshot's folder. Whoever does not know it cannot reach what is in it: 128 random bits. */
export function newFolderName(): string {
  return randomBytes(16).toString("hex");
}

/**
 * Where snapshots keep their frozen files: `<root>/<unguessable>/<disk>.qcow2`. As root the folders are 0711, so that the hypervisors that stand on one, and know its
 * name, reach it, and nobody can look for others. The files are the daemon's own and read-only.
 */
export class SnapshotFolders {
  readonly #host: Host;
  readonly #root: string;
  /** Who reads and writes images that a guest may have made up; null when the daemon is not root. */
  readonly user: HostUser | null;
  readonly #changes = new Turns();
  readonly #merges = new Turns();

  constructor(options: { readonly host: Host; readonly root: string; readonly user: HostUser | null }) {
    this.#host = options.host;
    this.#root = options.root;
    this.user = options.user;
  }

  path(folder: string): string {
    return join(this.#root, folder);
  }

  layerPath({ folder, disk }: LayerRef): string {
    return join(this.#root, folder, `${disk}${suffix}`);
  }

  /** Where a file is made that is to take a layer's place. */
  halfPath(ref: LayerRef): string {
    return `${this.layerPath(ref)}${halfSuffix}`;
  }

  /** A name for a layer's former file, as long as somebody may read it; never the same twice. */
  newReplacedPath(ref: LayerRef): string {
    return `${this.layerPath(ref)}${replacedInfix}${randomBytes(8).toString("hex")}`;
  }

  /** What merges have left in the folders: files that were half made, and former ones that somebody may still read. */
  async leftByMerges(): Promise<{ readonly half: readonly string[]; readonly replaced: readonly Replaced[] }> {
    const half: string[] = [];
    const replaced: Replaced[] = [];
    for (const folder of await this.list()) {
      for (const name of await this.#host.files.list(this.path(folder))) {
        const path = join(this.path(folder), name);
        if (name.endsWith(`${suffix}${halfSuffix}`)) half.push(path);
        const [disk = "", ...rest] = name.split(`${suffix}${replacedInfix}`);
        if (rest.length > 0) replaced.push({ path, ref: { folder, disk }, below: await this.below(path) });
      }
    }
    return { half, replaced };
  }

  /** Where the machine's memory of that moment is, when it was kept. */
  memoryPath(folder: string): string {
    return join(this.#root, folder, "memory");
  }

  /** Makes the folder, with a word of whose it is for who looks there: a snapshot's, or a fork's; one that is there stays as it is. */
  async create(folder: string, owner: { readonly snapshotId: string } | { readonly forkOf: string }): Promise<void> {
    const { files } = this.#host;
    const mode = this.user ? 0o711 : 0o700;
    await files.makeDirectory(this.#root, { mode });
    await files.makeDirectory(this.path(folder), { mode });
    const path = join(this.path(folder), "snapshot.json");
    if (!(await files.exists(path))) await files.writeAtomic(path, `${JSON.stringify(owner)}\n`);
  }

  /** Removes the folder with all that is in it; resolves when it is gone already. */
  async remove(folder: string): Promise<void> {
    await this.#host.files.remove(this.path(folder));
  }

  /** The folders there are. */
  list(): Promise<readonly string[]> {
    return this.#host.files.list(this.#root);
  }

  /** The disks that a folder has frozen files of. */
  async disksOf(folder: string): Promise<string[]> {
    const names = await this.#host.files.list(this.path(folder));
    return names.filter((name) => name.endsWith(suffix)).map((name) => name.slice(0, -suffix.length));
  }

  /** The files of a folder that never change, by their names in it: disks, and the parts of the memory. */
  async filesOf(folder: string): Promise<string[]> {
    const disks = (await this.disksOf(folder)).map((disk) => `${disk}${suffix}`);
    const memory = await this.#host.files.list(this.memoryPath(folder));
    return [...disks, ...memory.map((name) => join("memory", name))];
  }

  /** A frozen file's name in its folder. */
  fileOf({ disk }: LayerRef): string {
    return `${disk}${suffix}`;
  }

  /** Every frozen file there is, and what it stands on. */
  async survey(): Promise<Layer[]> {
    const layers: Layer[] = [];
    for (const folder of await this.list()) {
      for (const disk of await this.disksOf(folder)) {
        const layer = await this.#see({ folder, disk });
        if (layer) layers.push(layer);
      }
    }
    return layers;
  }

  /** The frozen file that a disk stands on; null when that is something else, or there is no such disk. The disk may be its guest's. */
  async below(path: string): Promise<LayerRef | null> {
    return this.#refOf((await this.#header(path))?.backingPath);
  }

  /** A frozen file and all those below it, from the top down; ends where one is missing, and before one comes a second time. */
  async chain(top: LayerRef | null): Promise<LayerRef[]> {
    const chain = new Map<string, LayerRef>();
    for (let at = top; at; at = await this.below(this.layerPath(at))) {
      const path = this.layerPath(at);
      if (chain.has(path)) break;
      chain.set(path, at);
    }
    return [...chain.values()];
  }

  /** What a disk stands on, as a program is told it; null for nothing. The disk may be its guest's. */
  async backing(path: string): Promise<{ readonly path: string; readonly format: "qcow2" | "raw" } | null> {
    const backing = (await this.#header(path))?.backingPath ?? null;
    return backing === null ? null : { path: backing, format: this.#refOf(backing) ? "qcow2" : "raw" };
  }

  /** How large a guest sees a disk; undefined when there is none. The disk may be its guest's. */
  async sizeBytes(path: string): Promise<number | undefined> {
    return (await this.#header(path))?.sizeBytes;
  }

  /** Runs while nobody else here removes or rewrites layers: one daemon owns a data folder, so its own queue is enough. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#changes.run(work);
  }

  /** Runs while nobody else here merges layers; most of that takes long, and others may remove and rewrite layers meanwhile. */
  merging<T>(work: () => Promise<T>): Promise<T> {
    return this.#merges.run(work);
  }

  async #see(ref: LayerRef): Promise<Layer | undefined> {
    const path = this.layerPath(ref);
    const [header, facts] = await Promise.all([this.#header(path), this.#host.files.facts(path)]);
    if (!facts) return undefined;
    return { ...ref, below: this.#refOf(header?.backingPath), usedBytes: facts.usedBytes };
  }

  async #header(path: string) {
    const head = await this.#host.files.readHead(path, maxHeaderBytes);
    return head && parseQcow2Header(head);
  }

  #refOf(path: string | null | undefined): LayerRef | null {
    if (!path?.endsWith(suffix)) return null;
    const folder = dirname(path);
    if (dirname(folder) !== this.#root || !/^[0-9a-f]{32}$/.test(basename(folder))) return null;
    return { folder: basename(folder), disk: basename(path, suffix) };
  }
}

/** One work after the other. */
class Turns {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }
}
