/** A plain file as an archive of Berth's has it. */
export interface TarFile {
  /** At most 100 bytes, ASCII. */
  readonly path: string;
  readonly size: number;
  /** Since the epoch. */
  readonly mtimeSeconds: number;
}

const blockSize = 512;
/** What eleven octal digits hold. */
const maxOctal = 0o77777777777;

/** What ends an archive: two blocks of zeros. */
export const tarEnd: Buffer = Buffer.alloc(2 * blockSize);

/** How many zeros follow a content of this size. */
export function tarPadding(size: number): number {
  return (blockSize - (size % blockSize)) % blockSize;
}

/** The header block of a plain file, mode 0600, owned by root: ustar, and for more than 8 GiB with GNU's binary size, which every tar of today reads. */
export function tarHeader({ path, size, mtimeSeconds }: TarFile): Buffer {
  if (Buffer.byteLength(path) > 100) throw new Error(`${path} is longer than 100 bytes`);
  const header = Buffer.alloc(blockSize);
  const octal = (value: number, at: number, length: number) =>
    header.write(value.toString(8).padStart(length - 1, "0"), at, "latin1");
  header.write(path, 0, "latin1");
  octal(0o600, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  if (size <= maxOctal) octal(size, 124, 12);
  else {
    header[124] = 0x80;
    header.writeBigUInt64BE(BigInt(size), 128);
  }
  octal(mtimeSeconds, 136, 12);
  header.write("        ", 148, "latin1");
  header.write("0", 156, "latin1");
  header.write("ustar\u000000", 257, "latin1");
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return header;
}
