import { BerthError } from "@berth/api";
import { type ByteString, display, type TarEntry } from "../../core/tar.ts";
import type { DirectoryNode, LeafNode, TreeNode } from "./tree.ts";

export interface MergeLimits {
  /** Entries of all layers together. */
  readonly maxEntries: number;
  /** Bytes of all files of all layers together. */
  readonly maxBytes: number;
  /** Only for a test's negative control: paths that lead out are bent back into the image instead of refused. */
  readonly trusting?: boolean;
}

export interface LayerEntries {
  /** The layer's digest, for messages. */
  readonly name: string;
  readonly entries: Iterable<TarEntry>;
}

/** A directory while the layers are laid over each other. */
interface OpenDirectory extends Omit<DirectoryNode, "children"> {
  readonly children: Map<ByteString, LeafNode | OpenDirectory>;
}

const whiteoutPrefix = ".wh.";
const opaqueMarker = ".wh..wh..opq";
/** Limits of Linux: NAME_MAX, PATH_MAX, and how many links the kernel follows before ELOOP. */
const maxNameLength = 255;
const maxPathLength = 4096;
const maxLinksFollowed = 40;
/** Attributes of all entries together: unlike contents they are held in memory, and nothing but this bounds them there. */
const maxXattrBytes = 64 * 1024 * 1024;
const noXattrs: ReadonlyMap<ByteString, Buffer> = new Map();

/**
 * Lays layers over each other, lowest first, as OCI's image-spec (layer.md) has it: whiteouts and opaque directories hide what lower layers
 * brought and never what their own layer brings, wherever they stand in it. Symbolic links among an entry's parents are followed inside the
 * image, as other tools do. Device nodes are left out and told to `log`.
 * Throws BerthError `unsafe_image`, naming layer and entry.
 */
export function mergeLayers(
  layers: Iterable<LayerEntries>,
  limits: MergeLimits,
  log: (line: string) => void,
): DirectoryNode {
  const root = implicitDirectory();
  let entryCount = 0;
  let byteCount = 0;
  let xattrBytes = 0;
  let index = 0;
  for (const { name, entries } of layers) {
    const layer = new Layer(name, index, root, limits.trusting ?? false);
    const kept: { entry: TarEntry; parts: readonly ByteString[] }[] = [];
    let devices = 0;
    for (const entry of entries) {
      entryCount += 1;
      byteCount += entry.size;
      if (entryCount > limits.maxEntries)
        throw layer.refuse(entry, `the image has more than ${limits.maxEntries} entries`);
      if (byteCount > limits.maxBytes)
        throw layer.refuse(entry, `the image's files have more than ${limits.maxBytes} bytes`);
      for (const [name, value] of entry.xattrs) xattrBytes += name.length + value.length;
      if (xattrBytes > maxXattrBytes)
        throw layer.refuse(entry, `the image's extended attributes have more than ${maxXattrBytes} bytes`);
      const parts = layer.split(entry, entry.path);
      const last = parts.at(-1) ?? "";
      if (last.startsWith(whiteoutPrefix)) layer.hide(entry, parts, last);
      else if (entry.kind === "device") devices += 1;
      else kept.push({ entry, parts });
    }
    if (devices > 0)
      log(`Left out ${devices} device node${devices === 1 ? "" : "s"} of layer ${name}: a VM makes its own.`);
    for (const { entry, parts } of kept) layer.add(entry, parts);
    index += 1;
  }
  return root;
}

function implicitDirectory(): OpenDirectory {
  return {
    kind: "directory",
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: { seconds: 0, nanoseconds: 0 },
    xattrs: noXattrs,
    children: new Map(),
  };
}

/** One layer being laid over the tree. */
class Layer {
  readonly #name: string;
  readonly #index: number;
  readonly #root: OpenDirectory;
  readonly #trusting: boolean;

  constructor(name: string, index: number, root: OpenDirectory, trusting: boolean) {
    this.#trusting = trusting;
    this.#name = name;
    this.#index = index;
    this.#root = root;
  }

  refuse(entry: TarEntry, why: string): BerthError {
    return new BerthError("unsafe_image", `Layer ${this.#name}, entry ${display(entry.path)}: ${why}.`);
  }

  /** A path's components. Absolute ones and those with `..` are refused; `./a//b/` is a, b. */
  split(entry: TarEntry, path: ByteString): readonly ByteString[] {
    if (path.startsWith("/") && !this.#trusting) throw this.refuse(entry, `${display(path)} is absolute`);
    if (path.length > maxPathLength) throw this.refuse(entry, `its path has more than ${maxPathLength} bytes`);
    const parts = path.split("/").filter((part) => part !== "" && part !== "." && !(this.#trusting && part === ".."));
    for (const part of parts) {
      if (part === "..") throw this.refuse(entry, `${display(path)} climbs out with ..`);
      if (part.includes("\0")) throw this.refuse(entry, "its path has a NUL");
      if (part.length > maxNameLength) throw this.refuse(entry, `a name has more than ${maxNameLength} bytes`);
    }
    return parts;
  }

  /** A whiteout: hides one name, or all, of what lower layers brought. Nothing of this layer is in the tree yet. */
  hide(entry: TarEntry, parts: readonly ByteString[], marker: ByteString): void {
    const parent = this.#walk(entry, parts.slice(0, -1), () => undefined);
    if (marker === opaqueMarker) {
      parent?.children.clear();
      return;
    }
    // Others of this form are the private notes of AUFS.
    if (marker.startsWith(".wh..wh.")) return;
    const hidden = marker.slice(whiteoutPrefix.length);
    if (hidden === "" || hidden === "." || hidden === "..")
      throw this.refuse(entry, "a whiteout must name what it hides");
    parent?.children.delete(hidden);
  }

  add(entry: TarEntry, parts: readonly ByteString[]): void {
    const name = parts.at(-1);
    if (name === undefined) {
      if (entry.kind !== "directory") throw this.refuse(entry, "the root can only be a directory");
      Object.assign(this.#root, attributesOf(entry));
      return;
    }
    const parent = this.#makeParents(entry, parts.slice(0, -1));
    const before = parent.children.get(name);
    if (entry.kind === "directory") {
      // In place, so that a directory keeps its children and its order.
      if (before?.kind === "directory") Object.assign(before, attributesOf(entry));
      else parent.children.set(name, { ...implicitDirectory(), ...attributesOf(entry) });
      return;
    }
    parent.children.set(name, entry.kind === "hardlink" ? this.#linked(entry) : this.#leaf(entry));
  }

  #leaf(entry: TarEntry): LeafNode {
    const attributes = attributesOf(entry);
    switch (entry.kind) {
      case "symlink":
        if (entry.target === "" || entry.target.length >= maxPathLength || entry.target.includes("\0")) {
          throw this.refuse(entry, "its link has no valid target");
        }
        return { kind: "symlink", ...attributes, mode: 0o777, target: entry.target };
      case "fifo":
        return { kind: "fifo", ...attributes };
      default:
        return {
          kind: "file",
          ...attributes,
          content: { layer: this.#index, offset: entry.offset, size: entry.size },
        };
    }
  }

  /** The file a hard link shares. */
  #linked(entry: TarEntry): LeafNode {
    const parts = this.split(entry, entry.target);
    const target = this.#find(entry, parts);
    if (!target) throw this.refuse(entry, `it is a hard link to ${display(entry.target)}, which is not there`);
    if (target.kind === "directory") throw this.refuse(entry, "it is a hard link to a directory");
    return target;
  }

  /** What is at a path, following links in all components but the last; undefined when nothing is. */
  #find(entry: TarEntry, parts: readonly ByteString[]): LeafNode | OpenDirectory | undefined {
    const name = parts.at(-1);
    if (name === undefined) return this.#root;
    const parent = this.#walk(entry, parts.slice(0, -1), () => undefined);
    return parent?.children.get(name);
  }

  /** The directory an entry belongs into; what is missing on the way is made, and a file in the way gives way. */
  #makeParents(entry: TarEntry, parts: readonly ByteString[]): OpenDirectory {
    const parent = this.#walk(entry, parts, (directory, name) => {
      const made = implicitDirectory();
      directory.children.set(name, made);
      return made;
    });
    if (!parent) throw this.refuse(entry, "its folder cannot be reached");
    return parent;
  }

  #walk(
    entry: TarEntry,
    parts: readonly ByteString[],
    missing: (directory: OpenDirectory, name: ByteString) => OpenDirectory | undefined,
  ): OpenDirectory | undefined {
    const todo = [...parts].reverse();
    const trail: OpenDirectory[] = [this.#root];
    let followed = 0;
    for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
      const here = trail.at(-1) ?? this.#root;
      if (part === "..") {
        if (trail.length > 1) trail.pop();
        else if (!this.#trusting) throw this.refuse(entry, "a symbolic link on its path leads out of the image");
        continue;
      }
      const next = here.children.get(part);
      if (next?.kind === "symlink") {
        followed += 1;
        if (followed > maxLinksFollowed) throw this.refuse(entry, "its path has too many symbolic links");
        if (next.target.startsWith("/")) trail.length = 1;
        todo.push(
          ...next.target
            .split("/")
            .filter((step) => step !== "" && step !== ".")
            .reverse(),
        );
        continue;
      }
      const directory = next?.kind === "directory" ? next : missing(here, part);
      if (!directory) return undefined;
      trail.push(directory);
    }
    return trail.at(-1);
  }
}

function attributesOf({ mode, uid, gid, mtime, xattrs }: TarEntry) {
  return { mode, uid, gid, mtime, xattrs };
}

/** Every node of a tree once, a directory before its children, each with the names in byte order. */
export function* walkTree(root: DirectoryNode): Generator<TreeNode> {
  const seen = new Set<TreeNode>();
  const stack: TreeNode[] = [root];
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    yield node;
    if (node.kind === "directory")
      stack.push(
        ...sortedChildren(node)
          .map(([, child]) => child)
          .reverse(),
      );
  }
}

/** A directory's children in byte order: the same tree gives the same file system, whatever order its layers had. */
export function sortedChildren(directory: DirectoryNode): [ByteString, TreeNode][] {
  return [...directory.children].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}
