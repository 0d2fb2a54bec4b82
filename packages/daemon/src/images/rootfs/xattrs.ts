import type { ByteString } from "../../core/tar.ts";

/** How ext4 shortens attribute names (kernel: Documentation/filesystems/ext4, "Extended Attributes"). */
const prefixes: readonly (readonly [prefix: ByteString, index: number])[] = [
  ["user.", 1],
  ["trusted.", 4],
  ["security.", 6],
  ["system.", 7],
];
const whole: Readonly<Record<ByteString, number>> = { "system.posix_acl_access": 2, "system.posix_acl_default": 3 };

const magic = 0xea020000;
const entryHeader = 16;
const blockHeader = 32;

export interface EncodedXattrs {
  /** What follows the inode's extra fields; empty when there are none or they need a block. */
  readonly inode: Buffer;
  /** A block of their own, for what does not fit the inode. */
  readonly block: Buffer | null;
}

interface Item {
  readonly index: number;
  readonly name: ByteString;
  readonly value: Buffer;
}

/** Whether ext4 has a place for an attribute of this name. */
export function canStoreXattr(name: ByteString): boolean {
  return itemFor(name, Buffer.alloc(0)) !== undefined;
}

/** Attributes as ext4 holds them, in the inode's `room` bytes if all fit there, else in one block; undefined when even that is too small. */
export function encodeXattrs(
  xattrs: ReadonlyMap<ByteString, Buffer>,
  room: number,
  blockSize: number,
): EncodedXattrs | undefined {
  const items = [...xattrs].flatMap(([name, value]) => itemFor(name, value) ?? []);
  if (items.length === 0) return { inode: Buffer.alloc(0), block: null };
  // The order the kernel searches a block in; the inode has none of its own.
  items.sort((a, b) => a.index - b.index || a.name.length - b.name.length || (a.name < b.name ? -1 : 1));
  const needed = items.reduce(
    (sum, item) => sum + padded(entryHeader + item.name.length) + padded(item.value.length),
    4,
  );
  if (4 + needed <= room) {
    const inode = Buffer.alloc(room);
    inode.writeUInt32LE(magic, 0);
    // Offsets of values count from the first entry, behind the magic; there entries carry no hash.
    write(items, inode.subarray(4), 0, false);
    return { inode, block: null };
  }
  if (blockHeader + needed > blockSize) return undefined;
  const block = Buffer.alloc(blockSize);
  block.writeUInt32LE(magic, 0);
  block.writeUInt32LE(1, 4); // reference count
  block.writeUInt32LE(1, 8); // blocks
  block.writeUInt32LE(write(items, block, blockHeader, true), 12);
  return { inode: Buffer.alloc(0), block };
}

function padded(length: number): number {
  return (length + 3) & ~3;
}

function itemFor(name: ByteString, value: Buffer): Item | undefined {
  const index = whole[name];
  if (index !== undefined) return { index, name: "", value: shortenAcl(value) };
  const found = prefixes.find(([prefix]) => name.startsWith(prefix) && name.length > prefix.length);
  if (!found || name.length - found[0].length > 255) return undefined;
  return { index: found[1], name: name.slice(found[0].length), value };
}

/**
 * An access control list as programs see it (version 2, 8 bytes an entry, linux/posix_acl_xattr.h) in ext4's form: version 1, and the id
 * only with the entries that name a user (2) or a group (8).
 */
function shortenAcl(value: Buffer): Buffer {
  const parts: Buffer[] = [Buffer.from([1, 0, 0, 0])];
  for (let at = 4; at + 8 <= value.length; at += 8) {
    const tag = value.readUInt16LE(at);
    parts.push(value.subarray(at, at + (tag === 2 || tag === 8 ? 8 : 4)));
  }
  return Buffer.concat(parts);
}

/** Entries grow from the front, values from the end. Gives the hash of all, which a block's header carries. */
function write(items: readonly Item[], area: Buffer, start: number, hashed: boolean): number {
  let entry = start;
  let values = area.length;
  let together = 0;
  for (const { index, name, value } of items) {
    values -= padded(value.length);
    value.copy(area, values);
    const hash = hashed ? entryHash(name, area.subarray(values, values + padded(value.length))) : 0;
    area.writeUInt8(name.length, entry);
    area.writeUInt8(index, entry + 1);
    area.writeUInt16LE(value.length === 0 ? 0 : values, entry + 2);
    area.writeUInt32LE(value.length, entry + 8);
    area.writeUInt32LE(hash, entry + 12);
    area.write(name, entry + entryHeader, "latin1");
    entry += padded(entryHeader + name.length);
    together = (rotate(together, 16) ^ hash) >>> 0;
  }
  return together;
}

/** The kernel's ext4_xattr_hash_entry: name bytes (signed, as e2fsprogs has always had them), then the value's words. */
function entryHash(name: ByteString, value: Buffer): number {
  let hash = 0;
  for (let at = 0; at < name.length; at += 1) {
    hash = (rotate(hash, 5) ^ ((name.charCodeAt(at) << 24) >> 24)) >>> 0;
  }
  for (let at = 0; at < value.length; at += 4) hash = (rotate(hash, 16) ^ value.readUInt32LE(at)) >>> 0;
  return hash;
}

function rotate(value: number, bits: number): number {
  return ((value << bits) | (value >>> (32 - bits))) >>> 0;
}
