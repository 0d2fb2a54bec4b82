import { createHash } from "node:crypto";
import { closeSync, createReadStream, fstatSync, openSync, readSync } from "node:fs";
import { display, readTar, type TarEntry } from "../core/tar.ts";
import { entryNames, type Manifest, maxManifestBytes, parseManifest, refuseArchive } from "./manifest.ts";

/** A file in an archive: where its bytes are, and their SHA-256 as the archive's last entry has it. */
export interface ArchiveEntry {
  readonly path: string;
  readonly offset: number;
  readonly size: number;
  readonly sha256: string;
}

/** An archive whose structure is sound. What its entries hold has not been looked at. */
export interface OpenedArchive {
  readonly manifest: Manifest;
  readonly manifestEntry: ArchiveEntry;
  /** The disks' files, in the manifest's order. */
  readonly disks: readonly ArchiveEntry[];
}

const maxChecksumBytes = 64 * 1024;
/** tar fills its last record with zeros. */
const maxTailBytes = 64 * 1024;

/**
 * Reads the structure of an archive, which is not trusted: it must have exactly the entries that its manifest names, as plain files and in their order, so nothing of
 * it is ever put anywhere by its own name. Throws `invalid_archive`.
 */
export function openArchive(path: string): OpenedArchive {
  const fd = openSync(path, "r");
  try {
    return readStructure(fd);
  } finally {
    closeSync(fd);
  }
}

function readStructure(fd: number): OpenedArchive {
  const { size } = fstatSync(fd);
  const read = (buffer: Buffer, position: number) => readSync(fd, buffer, 0, buffer.length, position);
  const entries = readTar({ size, read }, (why) => refuseArchive(`is ${why}`));
  const next = (expected: string, maxBytes: number): TarEntry => {
    const { value: entry } = entries.next() as IteratorResult<TarEntry, undefined>;
    if (!entry) throw refuseArchive(`ends where ${expected} belongs: it was cut short`);
    if (entry.path !== expected)
      throw refuseArchive(`has ${display(entry.path).slice(0, 100)} where ${expected} belongs`);
    if (entry.kind !== "file") throw refuseArchive(`has a ${entry.kind} where the file ${expected} belongs`);
    if (entry.size > maxBytes)
      throw refuseArchive(`has a ${expected} of ${entry.size} bytes; at most ${maxBytes} are read`);
    return entry;
  };
  const text = (entry: TarEntry): string => {
    const bytes = Buffer.alloc(entry.size);
    read(bytes, entry.offset);
    return bytes.toString("utf8");
  };

  const manifestAt = next(entryNames.manifest, maxManifestBytes);
  const manifest = parseManifest(text(manifestAt));
  const disksAt = manifest.disks.map(({ name, fileBytes }) => {
    const entry = next(entryNames.disk(name), Number.MAX_SAFE_INTEGER);
    if (entry.size !== fileBytes) {
      throw refuseArchive(`has a file of ${entry.size} bytes for the disk ${name}, and says that it has ${fileBytes}`);
    }
    return entry;
  });
  const checksumsAt = next(entryNames.checksums, maxChecksumBytes);
  const tail = size - checksumsAt.offset - checksumsAt.size;
  if (tail > maxTailBytes || !entries.next().done) throw refuseArchive(`goes on behind ${entryNames.checksums}`);

  const sums = readChecksums(
    text(checksumsAt),
    [manifestAt, ...disksAt].map((entry) => entry.path),
  );
  const summed = (entry: TarEntry): ArchiveEntry => {
    const { path, offset, size } = entry;
    return { path, offset, size, sha256: sums.get(path) ?? "" };
  };
  const disks = disksAt.map(summed);
  for (const [index, { path, sha256 }] of disks.entries()) {
    if (sha256 !== manifest.disks[index]?.sha256) throw refuseArchive(`has two different checksums of ${path}`);
  }
  return { manifest, manifestEntry: summed(manifestAt), disks };
}

/** Lines as sha256sum writes them, one for each of these files. */
function readChecksums(text: string, paths: readonly string[]): ReadonlyMap<string, string> {
  const lines = text.split("\n").slice(0, -1);
  const sums = new Map(lines.map((line) => [line.slice(66), line.slice(0, 64)]));
  const sound = lines.every((line) => /^[0-9a-f]{64} {2}\S/.test(line)) && lines.length === paths.length;
  if (!sound || !paths.every((path) => sums.has(path))) throw refuseArchive("has no checksum of each of its files");
  return sums;
}

/** How verifying is stopped, and told of. */
export interface Verifying {
  readonly signal: AbortSignal;
  progress(percent: number, detail: string): void;
}

/** Holds every byte of an archive's files to its checksum. Rejects with `invalid_archive` naming the file that differs. */
export async function verifyArchive(path: string, archive: OpenedArchive, work: Verifying): Promise<void> {
  const entries = [archive.manifestEntry, ...archive.disks];
  const total = entries.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const entry of entries) {
    const hash = createHash("sha256");
    for await (const chunk of readEntry(path, entry, work.signal)) {
      hash.update(chunk);
      done += chunk.length;
      work.progress((100 * done) / total, entry.path);
    }
    if (hash.digest("hex") !== entry.sha256) throw refuseArchive(`is damaged: ${entry.path} does not fit its checksum`);
  }
}

async function* readEntry(
  path: string,
  { offset, size }: ArchiveEntry,
  signal: AbortSignal,
): AsyncGenerator<Buffer, void> {
  if (size === 0) return;
  yield* createReadStream(path, { start: offset, end: offset + size - 1, highWaterMark: 1024 * 1024, signal });
}
