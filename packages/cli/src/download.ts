import { open, rename, rm, truncate } from "node:fs/promises";
import { type Archive, beginningBytes, type Client } from "@berth/api";
import { beginningOf, checkArchive, sizeOf } from "./archive-file.ts";
import type { Context } from "./command.ts";
import { listAll } from "./pages.ts";
import { carry } from "./transfer.ts";

/** Where a download is until it is whole. */
export function partOf(file: string): string {
  return `${file}.part`;
}

/** What is to be downloaded. */
export interface Wanted {
  /** The instance's or snapshot's. */
  readonly id: string;
  /** When it became what it is. */
  readonly since: string;
  readonly environment: boolean;
}

/**
 * The archive that a part of a download here is of: one of the same thing with the same beginning, written since that became what it is. Undefined when there is none, or too
 * little here to tell.
 */
export async function archiveOfPart(client: Client, file: string, wanted: Wanted): Promise<Archive | undefined> {
  const have = (await sizeOf(partOf(file))) ?? 0;
  if (have < beginningBytes) return undefined;
  const beginning = await beginningOf(partOf(file));
  const archives = await listAll((page) => client.listArchives({ query: page }));
  return archives.find(
    ({ source, state, sizeBytes, createdAt, ...archive }) =>
      source.type === "export" &&
      (source.snapshot ?? source.instance).id === wanted.id &&
      source.environment === wanted.environment &&
      state === "ready" &&
      (sizeBytes ?? 0) >= have &&
      archive.beginning === beginning &&
      Date.parse(createdAt) >= Date.parse(wanted.since),
  );
}

/** Fetches an archive, after what is here of it already when `goOn` says so; the file appears under its name when it is whole and fits its checksums. */
export async function download(context: Context, archive: Archive, file: string, goOn: boolean): Promise<void> {
  const client = await context.client();
  const part = partOf(file);
  if (!goOn) await rm(part, { force: true });
  const totalBytes = archive.sizeBytes ?? 0;
  await carry(context, {
    name: archive.name,
    totalBytes,
    position: async () => (await sizeOf(part)) ?? 0,
    async go(from, signal, told) {
      const body = await client.readArchive({ params: { archive: archive.id } }, { fromByte: from, signal });
      // Written chunk by chunk, so that all that came before it broke off is kept.
      const target = await open(part, "a", 0o600);
      try {
        let position = from;
        for await (const chunk of body) {
          await target.writeFile(chunk);
          position += chunk.length;
          told(position);
        }
      } finally {
        await target.close();
      }
    },
  });
  try {
    await truncate(part, totalBytes);
    await checkArchive(part);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
  await rename(part, file);
}
