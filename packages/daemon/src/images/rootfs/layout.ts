import { BerthError } from "@berth/api";
import { defaultDiskMib } from "../../core/default-disk.ts";
import { type ByteString, display } from "../../core/tar.ts";
import { sortedChildren, walkTree } from "../layers/merge.ts";
import type { DirectoryNode, TreeNode } from "../layers/tree.ts";
import { withMountPoints } from "./mount-points.ts";
import { canStoreXattr, type EncodedXattrs, encodeXattrs } from "./xattrs.ts";

export const blockSize = 4096;
export const inodeSize = 256;
/** Bytes of an inode's fields beyond the first 128: up to i_projid. */
export const extraInodeSize = 32;
export const rootInode = 2;
export const lostAndFoundInode = 11;
const firstFreeInode = 12;
/** ext4's EXT4_LINK_MAX. */
const maxLinks = 65_000;
const maxFastSymlink = 59;
const mebibyte = 1024 * 1024;
const bytesPerInode = 16_384;

export interface InodePlan {
  readonly node: TreeNode;
  readonly xattrs: EncodedXattrs;
  links: number;
}

/** A tree given inode numbers, and the size of the file system that holds it. */
export interface Layout {
  /** By inode number. */
  readonly inodes: ReadonlyMap<number, InodePlan>;
  readonly numbers: ReadonlyMap<TreeNode, number>;
  readonly parents: ReadonlyMap<DirectoryNode, DirectoryNode>;
  /** Inodes the file system needs in all. */
  readonly inodeCount: number;
  readonly sizeBytes: number;
  /** Bytes of all files, each counted once. */
  readonly contentBytes: number;
}

/** Plans a tree. Throws BerthError `unsupported_image` for what ext4 cannot hold; attributes it has no place for are told to `log`. */
export function planLayout(image: DirectoryNode, log: (line: string) => void): Layout {
  const root = withLostAndFound(withMountPoints(image));
  const inodes = new Map<number, InodePlan>();
  const numbers = new Map<TreeNode, number>();
  const parents = new Map<DirectoryNode, DirectoryNode>([[root, root]]);
  const lostAndFound = root.children.get("lost+found");
  const dropped = new Set<ByteString>();
  let next = firstFreeInode;
  let blocks = 0;
  let contentBytes = 0;

  for (const node of walkTree(root)) {
    let number = next;
    if (node === root) number = rootInode;
    else if (node === lostAndFound) number = lostAndFoundInode;
    else next += 1;
    for (const name of node.xattrs.keys()) if (!canStoreXattr(name)) dropped.add(name);
    const xattrs = encodeXattrs(node.xattrs, inodeSize - 128 - extraInodeSize, blockSize);
    if (!xattrs)
      throw new BerthError("unsupported_image", "A file's extended attributes have more than 4 KiB together.");
    numbers.set(node, number);
    inodes.set(number, { node, xattrs, links: node.kind === "directory" ? 2 : 0 });
    blocks += blocksOf(node) + (xattrs.block ? 1 : 0);
    if (node.kind === "file") contentBytes += node.content.size;
    if (node.kind === "directory") {
      for (const child of node.children.values()) if (child.kind === "directory") parents.set(child, node);
    }
  }
  countLinks(inodes, numbers);
  if (dropped.size > 0) {
    log(`Left out attributes that ext4 has no place for: ${[...dropped].map(display).join(", ")}.`);
  }
  return { inodes, numbers, parents, contentBytes, ...sizeFor(blocks, next) };
}

/** e2fsck wants /lost+found; one that the image brings is kept as it is. */
function withLostAndFound(image: DirectoryNode): DirectoryNode {
  if (image.children.has("lost+found")) return image;
  const lostAndFound: DirectoryNode = {
    kind: "directory",
    mode: 0o700,
    uid: 0,
    gid: 0,
    mtime: { seconds: 0, nanoseconds: 0 },
    xattrs: new Map(),
    children: new Map(),
  };
  return { ...image, children: new Map([...image.children, ["lost+found", lostAndFound]]) };
}

function countLinks(inodes: ReadonlyMap<number, InodePlan>, numbers: ReadonlyMap<TreeNode, number>): void {
  for (const plan of inodes.values()) {
    if (plan.node.kind !== "directory") continue;
    for (const [name, child] of plan.node.children) {
      const target = child.kind === "directory" ? plan : inodes.get(numbers.get(child) ?? 0);
      if (!target) throw new Error(`no inode was planned for ${display(name)}`);
      target.links += 1;
    }
  }
  for (const plan of inodes.values()) {
    if (plan.links <= maxLinks) continue;
    if (plan.node.kind !== "directory") {
      throw new BerthError("unsupported_image", `A file has more than ${maxLinks} names, which ext4 cannot hold.`);
    }
    // dir_nlink: a directory with too many subdirectories says 1.
    plan.links = 1;
  }
}

/** Blocks of a node, at most: a file may turn out to have holes. */
function blocksOf(node: TreeNode): number {
  switch (node.kind) {
    case "directory":
      return directoryBlocks(node).length;
    case "file": {
      const data = Math.ceil(node.content.size / blockSize);
      // A large file's extents may need up to four blocks of their own.
      return data + (data > 4 ? 4 : 0);
    }
    case "symlink":
      return isFastSymlink(node.target) ? 0 : 1;
    default:
      return 0;
  }
}

export function isFastSymlink(target: ByteString): boolean {
  return target.length <= maxFastSymlink;
}

/** The names of each of a directory's blocks: `.` and `..` first, then the children in byte order. */
export function directoryBlocks(
  directory: DirectoryNode,
): (readonly (readonly [ByteString, TreeNode | "." | ".."])[])[] {
  const blocks: [ByteString, TreeNode | "." | ".."][][] = [[]];
  let used = 0;
  const entries: [ByteString, TreeNode | "." | ".."][] = [[".", "."], ["..", ".."], ...sortedChildren(directory)];
  for (const entry of entries) {
    const length = directoryEntryLength(entry[0]);
    if (used + length > blockSize) {
      blocks.push([]);
      used = 0;
    }
    blocks.at(-1)?.push(entry);
    used += length;
  }
  return blocks;
}

export function directoryEntryLength(name: ByteString): number {
  return (8 + name.length + 3) & ~3;
}

/**
 * The file system's size: the content, room to write into until the disk is grown, and what ext4 keeps for itself; at least the usual disk, which then need not be grown. Room costs nothing:
 * the file is sparse. One inode for each 16 KiB, as mke2fs takes it, because growing keeps that ratio; more when the image has more files.
 */
function sizeFor(contentBlocks: number, inodesUsed: number): { inodeCount: number; sizeBytes: number } {
  const content = contentBlocks * blockSize;
  const roomy = content + Math.max(64 * mebibyte, Math.ceil(content / 8));
  const inodeCount = Math.max(Math.ceil(roomy / bytesPerInode), Math.ceil(inodesUsed * 1.25) + 1024);
  const own = inodeCount * inodeSize + 32 * mebibyte + Math.ceil(roomy / 1024);
  const sizeBytes = Math.ceil((roomy + own) / mebibyte) * mebibyte;
  const usual = defaultDiskMib * mebibyte;
  // Its larger tables take less than the room that there is.
  if (sizeBytes < usual) return { inodeCount: Math.max(inodeCount, usual / bytesPerInode), sizeBytes: usual };
  return { inodeCount, sizeBytes };
}
