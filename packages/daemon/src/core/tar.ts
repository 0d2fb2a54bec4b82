import type { BerthError } from "@berth/api";

/**
 * Names, link targets and attribute names are byte strings: one character for each byte (latin1). A file name on Linux is bytes, not text,
 * and a library that decodes them, or the binary value of a file capability, as UTF-8 loses what it cannot decode.
 */
export type ByteString = string;

export type TarKind = "file" | "directory" | "symlink" | "hardlink" | "fifo" | "device";

export interface TarEntry {
  readonly path: ByteString;
  readonly kind: TarKind;
  /** The twelve permission bits. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
  readonly size: number;
  /** Where its content begins in the archive. */
  readonly offset: number;
  /** Target of a symbolic or hard link. */
  readonly target: ByteString;
  readonly xattrs: ReadonlyMap<ByteString, Buffer>;
}

/** Since the epoch; nanoseconds from 0 to 999,999,999. */
export interface Time {
  readonly seconds: number;
  readonly nanoseconds: number;
}

/** Random access to an archive. */
export interface ByteSource {
  readonly size: number;
  /** Fills the buffer from a position; gives how many bytes there were. */
  read(buffer: Buffer, position: number): number;
}

/** Shows a byte string to people: as UTF-8, without control characters. */
export function display(bytes: ByteString): string {
  return JSON.stringify(Buffer.from(bytes, "latin1").toString("utf8"));
}

const blockSize = 512;
/** Longest extended header that is read; Linux limits a path to 4 KiB and all attributes of a file to a few 64 KiB values. */
const maxExtendedHeader = 1024 * 1024;

/** What a pax header can say for all entries after it (POSIX.1-2001, pax Extended Header). */
const globalKeys: ReadonlySet<string> = new Set(["path", "linkpath", "size", "uid", "gid", "mtime"]);

const kinds: Readonly<Record<string, TarKind>> = {
  "\0": "file",
  "0": "file",
  "7": "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "device",
  "4": "device",
  "5": "directory",
  "6": "fifo",
};

/** Extended headers that may stand before one entry: a sound archive has four at most, and reading any number would take for ever. */
const maxHeadersInARow = 100;

/**
 * The entries of a tar archive (POSIX.1-2001 pax, ustar, GNU and v7), in their order, without reading their contents.
 * Throws what `refuse` makes of the reason for an archive that is damaged, and for sparse entries, which nobody should send.
 */
export function* readTar(source: ByteSource, refuse: (why: string) => BerthError): Generator<TarEntry> {
  const block = Buffer.alloc(blockSize);
  const globals = new Map<ByteString, Buffer>();
  let locals = new Map<ByteString, Buffer>();
  let longName: ByteString | undefined;
  let longTarget: ByteString | undefined;
  let headers = 0;
  const damaged = (why: string): BerthError => refuse(`not a sound tar archive: ${why}`);

  for (let position = 0; ; ) {
    const got = source.read(block, position);
    if (got === 0 || isZero(block)) return;
    if (got < blockSize) throw damaged("it ends inside a header");
    if (!hasSoundChecksum(block)) throw damaged(`the header at byte ${position} has a wrong checksum`);
    const type = String.fromCharCode(block[156] ?? 0);
    const isExtension = "xgLK".includes(type);
    const text = (key: string) => (isExtension ? undefined : (locals.get(key) ?? globals.get(key))?.toString("latin1"));
    const number = (key: string, start: number, length: number): number => {
      const given = text(key);
      const value = given === undefined ? readNumber(block, start, length) : Number(given);
      if (!Number.isSafeInteger(value)) throw damaged(`the header at byte ${position} has no valid ${key}`);
      return value;
    };
    const kind = kinds[type];
    // Only files have content; what other entries say of their size is without meaning.
    const size = isExtension || kind === "file" || kind === undefined ? number("size", 124, 12) : 0;
    const offset = position + blockSize;
    if (size < 0 || offset + size > source.size)
      throw damaged(`the entry at byte ${position} is longer than the archive`);
    position = offset + Math.ceil(size / blockSize) * blockSize;

    if (isExtension) {
      headers += 1;
      if (headers > maxHeadersInARow) throw damaged(`more than ${maxHeadersInARow} extended headers at byte ${offset}`);
      if (size > maxExtendedHeader) throw damaged(`the extended header at byte ${offset} has ${size} bytes`);
      const content = Buffer.alloc(size);
      source.read(content, offset);
      if (type === "L") longName = untilNul(content, 0, size);
      else if (type === "K") longTarget = untilNul(content, 0, size);
      else {
        const records = readPaxRecords(content);
        if (!records) throw damaged(`the extended header at byte ${offset} cannot be read`);
        if (type === "x") locals = records;
        // Only what is read of them: any number of headers, each with keys of its own, must not pile up.
        else for (const [key, value] of records) if (globalKeys.has(key)) globals.set(key, value);
      }
      continue;
    }

    const path = text("path") ?? longName ?? ustarName(block);
    if (type === "S" || [...locals.keys()].some((key) => key.startsWith("GNU.sparse"))) {
      throw damaged(`${display(path)} is a sparse entry`);
    }
    if (kind === undefined) throw damaged(`${display(path)} has the unknown type ${JSON.stringify(type)}`);
    const xattrs = new Map<ByteString, Buffer>();
    for (const [key, value] of locals) {
      if (key.startsWith("SCHILY.xattr.")) xattrs.set(key.slice("SCHILY.xattr.".length), value);
    }
    const mtimeText = text("mtime");
    const mtime =
      mtimeText === undefined ? { seconds: readNumber(block, 136, 12), nanoseconds: 0 } : readTime(mtimeText);
    if (!mtime || !Number.isSafeInteger(mtime.seconds)) throw damaged(`${display(path)} has no valid time`);
    yield {
      path,
      // v7 archives mark a directory by its name only.
      kind: kind === "file" && path.endsWith("/") ? "directory" : kind,
      mode: readNumber(block, 100, 8) & 0o7777,
      uid: number("uid", 108, 8),
      gid: number("gid", 116, 8),
      mtime,
      size,
      offset,
      target: text("linkpath") ?? longTarget ?? untilNul(block, 157, 100),
      xattrs,
    };
    headers = 0;
    locals = new Map();
    longName = undefined;
    longTarget = undefined;
  }
}

const zeroBlock = Buffer.alloc(blockSize);
function isZero(block: Buffer): boolean {
  return block.equals(zeroBlock);
}

/** The sum of all header bytes, the checksum's own eight taken as spaces. Some old writers summed signed bytes. */
function hasSoundChecksum(block: Buffer): boolean {
  let unsigned = 0;
  let signed = 0;
  for (let at = 0; at < blockSize; at += 1) {
    const byte = at >= 148 && at < 156 ? 32 : (block[at] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  const written = readNumber(block, 148, 8);
  return written === unsigned || written === signed;
}

/** Octal text, or GNU's big-endian binary when the first bit is set. NaN when it is neither. */
function readNumber(block: Buffer, start: number, length: number): number {
  const first = block[start] ?? 0;
  if (first === 0x80 || first === 0xff) {
    let value = first === 0xff ? -1n : 0n;
    for (let at = start + 1; at < start + length; at += 1) value = (value << 8n) | BigInt(block[at] ?? 0);
    return Number(value);
  }
  const text = untilNul(block, start, length).trim();
  if (text === "") return 0;
  return /^[0-7]+$/.test(text) ? Number.parseInt(text, 8) : Number.NaN;
}

function untilNul(buffer: Buffer, start: number, length: number): ByteString {
  const field = buffer.subarray(start, start + length);
  const end = field.indexOf(0);
  return field.toString("latin1", 0, end === -1 ? field.length : end);
}

function ustarName(block: Buffer): ByteString {
  const name = untilNul(block, 0, 100);
  // GNU's magic is "ustar  "; it keeps other things where POSIX has the prefix.
  const prefix = block.toString("latin1", 257, 263) === "ustar\0" ? untilNul(block, 345, 155) : "";
  return prefix === "" ? name : `${prefix}/${name}`;
}

/** `LENGTH KEY=VALUE\n`, the length counting itself; values may be binary. */
function readPaxRecords(content: Buffer): Map<ByteString, Buffer> | undefined {
  const records = new Map<ByteString, Buffer>();
  for (let at = 0; at < content.length; ) {
    // Some writers fill the rest of the block with zeros and count it.
    if (content[at] === 0) break;
    const space = content.indexOf(0x20, at);
    const length = Number(content.toString("latin1", at, space));
    const equals = content.indexOf(0x3d, space);
    const end = at + length;
    if (space === -1 || !Number.isSafeInteger(length) || end > content.length || content[end - 1] !== 0x0a)
      return undefined;
    if (equals === -1 || equals >= end || equals <= space) return undefined;
    records.set(content.toString("latin1", space + 1, equals), Buffer.from(content.subarray(equals + 1, end - 1)));
    at = end;
  }
  return records;
}

/** Decimal seconds with any fraction, before the epoch too: -0.5 is a second before it and 500,000,000 nanoseconds. */
function readTime(text: string): Time | undefined {
  const [, sign, whole = "0", fraction = ""] = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(text) ?? [];
  if (sign === undefined) return undefined;
  const nanoseconds = Number(fraction.slice(0, 9).padEnd(9, "0"));
  if (sign === "") return { seconds: Number(whole), nanoseconds };
  return nanoseconds === 0
    ? { seconds: 0 - Number(whole), nanoseconds }
    : { seconds: -Number(whole) - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}
