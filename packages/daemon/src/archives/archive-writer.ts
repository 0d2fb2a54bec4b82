import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { BerthError } from "@berth/api";
import { tarEnd, tarHeader, tarPadding } from "../core/tar-header.ts";
import { writeFully } from "../host/write-fully.ts";
import { completeManifest, entryNames, type Manifest, type ManifestDraft, maxManifestBytes } from "./manifest.ts";

const headerBytes = 512;
const unknownSum = "0".repeat(64);

/**
 * Writes an archive in one pass, although its first entry has the sizes and sums of those that follow: room for the manifest is left at the beginning and filled at the
 * end. A disk's file is written by others, at the place that `beginDisk` names, to the end of the file.
 */
export class ArchiveWriter {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #draft: ManifestDraft;
  readonly #manifestBytes: number;
  readonly #disks: Manifest["disks"] = [];
  #end: number;

  private constructor(path: string, file: FileHandle, draft: ManifestDraft) {
    this.path = path;
    this.#file = file;
    this.#draft = draft;
    const most = Number.MAX_SAFE_INTEGER;
    const disks = draft.instance.spec.disks.map(({ name }) => ({
      name,
      sizeBytes: most,
      fileBytes: most,
      sha256: unknownSum,
    }));
    const longest = textOf(completeManifest(draft, disks));
    this.#manifestBytes = longest.length + tarPadding(longest.length);
    this.#end = headerBytes + this.#manifestBytes;
  }

  /** Begins a new file; one that is there is written anew. Rejects with `invalid_archive` when the instance has more to say of itself than an archive can hold. */
  static async begin(path: string, draft: ManifestDraft): Promise<ArchiveWriter> {
    const writer = new ArchiveWriter(path, await open(path, "w+", 0o600), draft);
    if (writer.#manifestBytes <= maxManifestBytes) return writer;
    await writer.close();
    throw new BerthError(
      "invalid_archive",
      `Its spec and start configuration are larger than ${maxManifestBytes} bytes.`,
    );
  }

  /** Where the next disk's file begins. */
  async beginDisk(): Promise<number> {
    const offset = this.#end + headerBytes;
    await this.#file.truncate(offset);
    return offset;
  }

  /** Takes what was written since `beginDisk` as a disk's file. */
  async endDisk(name: string, sizeBytes: number, signal: AbortSignal): Promise<void> {
    const path = entryNames.disk(name);
    const offset = this.#end + headerBytes;
    const fileBytes = (await this.#file.stat()).size - offset;
    const sha256 = await this.#sum(offset, fileBytes, signal);
    await writeFully(this.#file, this.#header(path, fileBytes), this.#end);
    this.#end = offset + fileBytes + tarPadding(fileBytes);
    await this.#file.truncate(this.#end);
    this.#disks.push({ name, sizeBytes, fileBytes, sha256 });
  }

  /** Writes the manifest and the checksums; the file is whole and on disk then. */
  async finish(): Promise<void> {
    // JSON may end in spaces.
    const manifest = textOf(completeManifest(this.#draft, this.#disks));
    const content = Buffer.concat([manifest, Buffer.alloc(this.#manifestBytes - manifest.length, " ")]);
    content[content.length - 1] = 0x0a;
    await writeFully(this.#file, this.#header(entryNames.manifest, content.length), 0);
    await writeFully(this.#file, content, headerBytes);
    const sums = [
      [createHash("sha256").update(content).digest("hex"), entryNames.manifest],
      ...this.#disks.map(({ name, sha256 }) => [sha256, entryNames.disk(name)]),
    ];
    const checksums = Buffer.from(sums.map(([sum, path]) => `${sum}  ${path}\n`).join(""));
    const padding = Buffer.alloc(tarPadding(checksums.length));
    const last = [this.#header(entryNames.checksums, checksums.length), checksums, padding, tarEnd];
    await writeFully(this.#file, Buffer.concat(last), this.#end);
    await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #header(path: string, size: number): Buffer {
    return tarHeader({ path, size, mtimeSeconds: Math.floor(Date.parse(this.#draft.createdAt) / 1000) });
  }

  async #sum(offset: number, size: number, signal: AbortSignal): Promise<string> {
    const hash = createHash("sha256");
    const content = createReadStream(this.path, {
      start: offset,
      end: offset + size - 1,
      highWaterMark: 1024 * 1024,
      signal,
    });
    for await (const chunk of content) hash.update(chunk as Buffer);
    return hash.digest("hex");
  }
}

/** The last byte is left for the newline that ends the file. */
function textOf(manifest: Manifest): Buffer {
  return Buffer.from(`${JSON.stringify(manifest, null, 1)}\n`);
}
