import { fsyncSync, readSync, writeSync } from "node:fs";
import type { ByteSource, ByteString, Time } from "../../core/tar.ts";
import type { FileNode, TreeNode } from "../layers/tree.ts";
import { Bitmap, type Run } from "./allocator.ts";
import {
  blockSize,
  directoryBlocks,
  directoryEntryLength,
  extraInodeSize,
  type InodePlan,
  inodeSize,
  isFastSymlink,
  type Layout,
  lostAndFoundInode,
  rootInode,
} from "./layout.ts";

// Field offsets are those of the kernel's Documentation/filesystems/ext4 ("Super Block", "Block Group Descriptors", "Index Nodes",
// "Contents of inode.i_block", "Directory Entries").
const superblockOffset = 1024;
const descriptorSize = 32;
const extentsFlag = 0x80000;
const maxExtentBlocks = 32_768;
const extentsInInode = 4;
const extentsInBlock = Math.floor((blockSize - 12) / 12);
/** A hole shorter than this is written as zeros: it would cost more extents than it saves blocks. */
const shortestHole = 16;
const zeroBlock = Buffer.alloc(blockSize);
const copyBufferSize = 256 * blockSize;

const modeBits: Readonly<Record<TreeNode["kind"], number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  fifo: 0o010000,
};
const directoryTypes: Readonly<Record<TreeNode["kind"], number>> = { file: 1, directory: 2, fifo: 5, symlink: 7 };

/** Blocks of a file that follow each other in the file and on the disk. */
interface Extent {
  readonly logical: number;
  readonly start: number;
  readonly length: number;
}

interface Group {
  readonly descriptor: Buffer;
  readonly blockBitmap: number;
  readonly inodeBitmap: number;
  readonly inodeTable: number;
}

/**
 * Fills an empty file system that mke2fs has just made (4 KiB blocks, 256-byte inodes, no checksums, no 64bit) with a planned tree.
 * The same layout and contents give the same bytes: times of the file system's own parts are set to the epoch.
 */
export function populate(
  fd: number,
  layout: Layout,
  layers: readonly ByteSource[],
  onProgress: (bytes: number) => void,
): void {
  new Populator(fd, layout, layers, onProgress).run();
}

class Populator {
  readonly #fd: number;
  readonly #layout: Layout;
  readonly #layers: readonly ByteSource[];
  readonly #onProgress: (bytes: number) => void;
  readonly #superblock: Buffer;
  readonly #groups: readonly Group[];
  readonly #inodesPerGroup: number;
  readonly #blocksPerGroup: number;
  readonly #blocks: Bitmap;
  readonly #copyBuffer = Buffer.alloc(copyBufferSize);

  constructor(fd: number, layout: Layout, layers: readonly ByteSource[], onProgress: (bytes: number) => void) {
    this.#fd = fd;
    this.#layout = layout;
    this.#layers = layers;
    this.#onProgress = onProgress;
    this.#superblock = this.#read(superblockOffset, 1024);
    const blockCount = this.#superblock.readUInt32LE(4);
    this.#blocksPerGroup = this.#superblock.readUInt32LE(32);
    this.#inodesPerGroup = this.#superblock.readUInt32LE(40);
    if (this.#blocksPerGroup !== blockSize * 8) throw new Error("mke2fs made groups of another size than expected");
    const groupCount = Math.ceil(blockCount / this.#blocksPerGroup);
    const descriptors = this.#read(blockSize, groupCount * descriptorSize);
    this.#groups = Array.from({ length: groupCount }, (_unused, index) => {
      const descriptor = descriptors.subarray(index * descriptorSize, (index + 1) * descriptorSize);
      return {
        descriptor,
        blockBitmap: descriptor.readUInt32LE(0),
        inodeBitmap: descriptor.readUInt32LE(4),
        inodeTable: descriptor.readUInt32LE(8),
      };
    });
    const bitmaps = this.#groups.map((group) => this.#read(group.blockBitmap * blockSize, blockSize));
    this.#blocks = new Bitmap(Buffer.concat(bitmaps), blockCount);
  }

  run(): void {
    // mke2fs gave the root and lost+found blocks; theirs are made anew.
    for (const number of [rootInode, lostAndFoundInode]) this.#freeBlocksOf(number);
    const numbers = [...this.#layout.inodes.keys()].sort((a, b) => a - b);
    const table = new InodeTableWriter(
      (number) => this.#inodePosition(number),
      (bytes, at) => this.#write(bytes, at),
    );
    for (const number of numbers) {
      const plan = this.#layout.inodes.get(number);
      if (plan) table.put(number, this.#inode(plan));
    }
    table.flush();
    this.#settleOwnInodes();
    this.#writeInodeBitmaps(numbers);
    this.#writeBlockBitmaps();
    this.#writeSuperblock();
    fsyncSync(this.#fd);
  }

  #read(position: number, length: number): Buffer {
    const buffer = Buffer.alloc(length);
    readFully(this.#fd, buffer, position);
    return buffer;
  }

  #write(bytes: Buffer, position: number): void {
    for (let done = 0; done < bytes.length; )
      done += writeSync(this.#fd, bytes, done, bytes.length - done, position + done);
  }

  #inodePosition(number: number): number {
    const group = this.#groups[Math.floor((number - 1) / this.#inodesPerGroup)];
    if (!group) throw new Error(`inode ${number} is beyond the file system`);
    return group.inodeTable * blockSize + ((number - 1) % this.#inodesPerGroup) * inodeSize;
  }

  #freeBlocksOf(number: number): void {
    const inode = this.#read(this.#inodePosition(number), inodeSize);
    const count = inode.readUInt16LE(40 + 2);
    for (let index = 0; index < count; index += 1) {
      const at = 40 + 12 + index * 12;
      const start = inode.readUInt32LE(at + 8);
      for (let block = start; block < start + inode.readUInt16LE(at + 4); block += 1) this.#blocks.set(block, false);
    }
  }

  #allocate(count: number): Run[] {
    const runs = this.#blocks.take(count, maxExtentBlocks);
    if (!runs) throw new Error("the file system was planned too small");
    return runs;
  }

  #allocateOne(): number {
    return this.#allocate(1)[0]?.start ?? 0;
  }

  #inode({ node, xattrs, links }: InodePlan): Buffer {
    const inode = Buffer.alloc(inodeSize);
    let blocks = 0;
    let size = 0;
    if (node.kind === "symlink" && isFastSymlink(node.target)) {
      size = node.target.length;
      inode.write(node.target, 40, "latin1");
    } else if (node.kind !== "fifo") {
      const data = this.#writeData(node);
      size = data.size;
      blocks = data.extents.reduce((sum, extent) => sum + extent.length, 0) + this.#writeExtents(inode, data.extents);
      inode.writeUInt32LE(extentsFlag, 32);
    }
    if (xattrs.block) {
      const block = this.#allocateOne();
      this.#write(xattrs.block, block * blockSize);
      inode.writeUInt32LE(block, 104);
      blocks += 1;
    }
    inode.writeUInt16LE(modeBits[node.kind] | node.mode, 0);
    writeOwner(inode, node.uid, 2, 120);
    writeOwner(inode, node.gid, 24, 122);
    inode.writeUInt32LE(size % 2 ** 32, 4);
    inode.writeUInt32LE(Math.floor(size / 2 ** 32), 108);
    inode.writeUInt16LE(links, 26);
    const sectors = blocks * (blockSize / 512);
    inode.writeUInt32LE(sectors % 2 ** 32, 28);
    inode.writeUInt16LE(Math.floor(sectors / 2 ** 32), 116);
    inode.writeUInt16LE(extraInodeSize, 128);
    // Access, change, modification and creation: an image knows only when content was modified.
    for (const [base, extra] of [
      [8, 140],
      [12, 132],
      [16, 136],
      [144, 148],
    ] as const) {
      writeTime(inode, node.mtime, base, extra);
    }
    xattrs.inode.copy(inode, 128 + extraInodeSize);
    return inode;
  }

  #writeData(node: Exclude<TreeNode, { kind: "fifo" }>): { size: number; extents: Extent[] } {
    switch (node.kind) {
      case "file":
        return { size: node.content.size, extents: this.#writeFile(node) };
      case "symlink": {
        const block = Buffer.alloc(blockSize);
        block.write(node.target, 0, "latin1");
        return { size: node.target.length, extents: this.#writeWhole(block) };
      }
      case "directory": {
        const own = this.#layout.numbers.get(node) ?? rootInode;
        const parent = this.#layout.parents.get(node);
        const parentNumber = (parent && this.#layout.numbers.get(parent)) ?? rootInode;
        const content = Buffer.concat(
          directoryBlocks(node).map((entries) =>
            encodeDirectoryBlock(
              entries.map(([name, target]) => {
                if (target === ".") return { name, number: own, type: directoryTypes.directory };
                if (target === "..") return { name, number: parentNumber, type: directoryTypes.directory };
                return { name, number: this.#layout.numbers.get(target) ?? 0, type: directoryTypes[target.kind] };
              }),
            ),
          ),
        );
        return { size: content.length, extents: this.#writeWhole(content) };
      }
    }
  }

  #writeWhole(content: Buffer): Extent[] {
    const extents: Extent[] = [];
    let logical = 0;
    for (const { start, length } of this.#allocate(content.length / blockSize)) {
      this.#write(content.subarray(logical * blockSize, (logical + length) * blockSize), start * blockSize);
      extents.push({ logical, start, length });
      logical += length;
    }
    return extents;
  }

  /** Copies a file's bytes; longer stretches of zeros become holes. */
  #writeFile({ content }: FileNode): Extent[] {
    // It may be of no layer.
    if (content.size === 0) return [];
    const source = this.#layers[content.layer];
    if (!source) throw new Error(`layer ${content.layer} is not there`);
    const extents: Extent[] = [];
    for (let done = 0; done < content.size; done += copyBufferSize) {
      const length = Math.min(copyBufferSize, content.size - done);
      const chunk = this.#copyBuffer.subarray(0, Math.ceil(length / blockSize) * blockSize);
      chunk.fill(0, length);
      if (source.read(chunk.subarray(0, length), content.offset + done) !== length)
        throw new Error("a layer was cut short");
      // With so many extents that the tree might run full, holes are no longer made.
      const stretches =
        extents.length < extentsInBlock ? dataStretches(chunk) : [{ start: 0, length: chunk.length / blockSize }];
      for (const stretch of stretches) {
        let at = stretch.start;
        for (const run of this.#allocate(stretch.length)) {
          this.#write(chunk.subarray(at * blockSize, (at + run.length) * blockSize), run.start * blockSize);
          append(extents, { logical: done / blockSize + at, start: run.start, length: run.length });
          at += run.length;
        }
      }
      this.#onProgress(length);
    }
    return extents;
  }

  /** Puts the extents into the inode, or into blocks that it points to; gives how many blocks those are. */
  #writeExtents(inode: Buffer, extents: readonly Extent[]): number {
    const area = inode.subarray(40, 100);
    if (extents.length <= extentsInInode) {
      writeExtentHeader(area, extents.length, extentsInInode, 0);
      for (const [index, extent] of extents.entries()) writeExtent(area, index, extent);
      return 0;
    }
    const leaves = Math.ceil(extents.length / extentsInBlock);
    if (leaves > extentsInInode) throw new Error("a file is in too many pieces");
    writeExtentHeader(area, leaves, extentsInInode, 1);
    for (let leaf = 0; leaf < leaves; leaf += 1) {
      const part = extents.slice(leaf * extentsInBlock, (leaf + 1) * extentsInBlock);
      const block = Buffer.alloc(blockSize);
      writeExtentHeader(block, part.length, extentsInBlock, 0);
      for (const [index, extent] of part.entries()) writeExtent(block, index, extent);
      const at = this.#allocateOne();
      this.#write(block, at * blockSize);
      area.writeUInt32LE(part[0]?.logical ?? 0, 12 + leaf * 12);
      area.writeUInt32LE(at, 12 + leaf * 12 + 4);
    }
    return leaves;
  }

  /** The journal's and the resize inode's times tell when they were made: the only difference between two builds. */
  #settleOwnInodes(): void {
    for (let number = 1; number < lostAndFoundInode; number += 1) {
      if (number === rootInode) continue;
      const position = this.#inodePosition(number);
      const inode = this.#read(position, inodeSize);
      if (inode.readUInt16LE(0) === 0 && inode.readUInt16LE(26) === 0 && inode.readUInt32LE(12) === 0) continue;
      inode.fill(0, 8, 20);
      inode.fill(0, 132, 152);
      this.#write(inode, position);
    }
  }

  #writeInodeBitmaps(numbers: readonly number[]): void {
    const directories = new Array<number>(this.#groups.length).fill(0);
    const used = new Set(numbers);
    for (let number = 1; number < lostAndFoundInode; number += 1) used.add(number);
    for (const number of numbers) {
      const group = Math.floor((number - 1) / this.#inodesPerGroup);
      if (this.#layout.inodes.get(number)?.node.kind === "directory")
        directories[group] = (directories[group] ?? 0) + 1;
    }
    this.#groups.forEach((group, index) => {
      const bitmap = new Bitmap(this.#read(group.inodeBitmap * blockSize, blockSize), this.#inodesPerGroup);
      let free = 0;
      for (let bit = 0; bit < this.#inodesPerGroup; bit += 1) {
        const isUsed = used.has(index * this.#inodesPerGroup + bit + 1);
        bitmap.set(bit, isUsed);
        if (!isUsed) free += 1;
      }
      this.#write(bitmap.bytes, group.inodeBitmap * blockSize);
      group.descriptor.writeUInt16LE(free, 14);
      group.descriptor.writeUInt16LE(directories[index] ?? 0, 16);
    });
  }

  #writeBlockBitmaps(): void {
    this.#groups.forEach((group, index) => {
      const first = index * this.#blocksPerGroup;
      const last = Math.min(first + this.#blocksPerGroup, this.#blocks.size);
      let free = 0;
      for (let block = first; block < last; block += 1) if (!this.#blocks.has(block)) free += 1;
      group.descriptor.writeUInt16LE(free, 12);
      const bytes = this.#blocks.bytes.subarray(first / 8, first / 8 + blockSize);
      this.#write(bytes, group.blockBitmap * blockSize);
    });
  }

  /** The superblock, its group descriptors, and the backups of both. */
  #writeSuperblock(): void {
    const sum = (offset: number) =>
      this.#groups.reduce((total, { descriptor }) => total + descriptor.readUInt16LE(offset), 0);
    const descriptors = Buffer.concat(this.#groups.map(({ descriptor }) => descriptor));
    this.#superblock.writeUInt32LE(sum(12), 12);
    this.#superblock.writeUInt32LE(sum(14), 16);
    this.#groups.forEach((_group, index) => {
      if (index !== 0 && !hasBackup(index)) return;
      const start = index * this.#blocksPerGroup * blockSize;
      const position = index === 0 ? superblockOffset : start;
      const superblock = index === 0 ? this.#superblock : this.#read(position, 1024);
      superblock.writeUInt32LE(sum(12), 12);
      superblock.writeUInt32LE(sum(14), 16);
      // Write time, last check, when made, and the KiB written by the tool that made it.
      superblock.fill(0, 48, 52);
      superblock.fill(0, 64, 68);
      superblock.fill(0, 264, 268);
      superblock.fill(0, 376, 384);
      this.#write(superblock, position);
      this.#write(descriptors, start + blockSize);
    });
  }
}

/** Collects neighbouring inodes into one write. */
class InodeTableWriter {
  readonly #position: (number: number) => number;
  readonly #write: (bytes: Buffer, position: number) => void;
  #pending: Buffer[] = [];
  #start = 0;

  constructor(position: (number: number) => number, write: (bytes: Buffer, position: number) => void) {
    this.#position = position;
    this.#write = write;
  }

  put(number: number, inode: Buffer): void {
    const position = this.#position(number);
    const follows = this.#start + this.#pending.length * inodeSize === position;
    if (!follows || this.#pending.length >= 4096) this.flush();
    if (this.#pending.length === 0) this.#start = position;
    this.#pending.push(inode);
  }

  flush(): void {
    if (this.#pending.length > 0) this.#write(Buffer.concat(this.#pending), this.#start);
    this.#pending = [];
  }
}

/** Fills a buffer from a file; gives how many bytes there were. */
export function readFully(fd: number, buffer: Buffer, position: number): number {
  let done = 0;
  while (done < buffer.length) {
    const got = readSync(fd, buffer, done, buffer.length - done, position + done);
    if (got === 0) break;
    done += got;
  }
  return done;
}

/** sparse_super: backups stand in group 1 and in powers of 3, 5 and 7. */
function hasBackup(group: number): boolean {
  if (group === 1) return true;
  return [3, 5, 7].some((base) => {
    let power = base;
    while (power < group) power *= base;
    return power === group;
  });
}

function encodeDirectoryBlock(entries: readonly { name: ByteString; number: number; type: number }[]): Buffer {
  const block = Buffer.alloc(blockSize);
  let at = 0;
  entries.forEach(({ name, number, type }, index) => {
    const length = index === entries.length - 1 ? blockSize - at : directoryEntryLength(name);
    block.writeUInt32LE(number, at);
    block.writeUInt16LE(length, at + 4);
    block.writeUInt8(name.length, at + 6);
    block.writeUInt8(type, at + 7);
    block.write(name, at + 8, "latin1");
    at += length;
  });
  return block;
}

/** The stretches of a chunk that must be written, in blocks: all but its long runs of zeros. */
function dataStretches(chunk: Buffer): { start: number; length: number }[] {
  const stretches: { start: number; length: number }[] = [];
  const count = chunk.length / blockSize;
  for (let block = 0; block < count; block += 1) {
    if (chunk.compare(zeroBlock, 0, blockSize, block * blockSize, (block + 1) * blockSize) === 0) continue;
    const last = stretches.at(-1);
    if (last && block - (last.start + last.length) < shortestHole) last.length = block + 1 - last.start;
    else stretches.push({ start: block, length: 1 });
  }
  return stretches;
}

function append(extents: Extent[], extent: Extent): void {
  const last = extents.at(-1);
  const joins =
    last &&
    last.logical + last.length === extent.logical &&
    last.start + last.length === extent.start &&
    last.length + extent.length <= maxExtentBlocks;
  if (joins) extents[extents.length - 1] = { ...last, length: last.length + extent.length };
  else extents.push(extent);
}

function writeExtentHeader(area: Buffer, count: number, max: number, depth: number): void {
  area.writeUInt16LE(0xf30a, 0);
  area.writeUInt16LE(count, 2);
  area.writeUInt16LE(max, 4);
  area.writeUInt16LE(depth, 6);
}

function writeExtent(area: Buffer, index: number, { logical, start, length }: Extent): void {
  area.writeUInt32LE(logical, 12 + index * 12);
  area.writeUInt16LE(length, 12 + index * 12 + 4);
  area.writeUInt32LE(start, 12 + index * 12 + 8);
}

function writeOwner(inode: Buffer, id: number, low: number, high: number): void {
  inode.writeUInt16LE(id & 0xffff, low);
  inode.writeUInt16LE((id >>> 16) & 0xffff, high);
}

/** Seconds beyond 2038 go on in two bits of the extra field, above them the nanoseconds; times that ext4 cannot hold become its nearest. */
function writeTime(inode: Buffer, { seconds, nanoseconds }: Time, base: number, extra: number): void {
  const held = Math.max(-(2 ** 31), Math.min(seconds, 3 * 2 ** 32 + 2 ** 31 - 1));
  inode.writeInt32LE(held | 0, base);
  const epoch = Math.floor((held + 2 ** 31) / 2 ** 32);
  inode.writeUInt32LE(((nanoseconds << 2) | epoch) >>> 0, extra);
}
