import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { beginningBytes } from "@berth/api";
import tar from "tar-stream";
import { UserError } from "./errors.ts";

/** How long a file is; undefined when there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  return (await stat(path).catch(() => undefined))?.size;
}

/** The digest by which berthd knows an archive: of its first 64 KiB. */
export async function beginningOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { end: beginningBytes - 1 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Holds the files of an archive to the checksums at its end. Rejects with a UserError naming the first that differs. */
export async function checkArchive(path: string): Promise<void> {
  const sums = new Map<string, string>();
  let promised: string | undefined;
  const extract = tar.extract();
  const reading = pipeline(createReadStream(path, { highWaterMark: 1024 * 1024 }), extract);
  // The loop below is told of the same failure.
  reading.catch(() => {});
  const damaged = (why: string) => new UserError(`${path} is damaged: ${why}.`);
  try {
    for await (const entry of extract) {
      const content = entry as unknown as Readable;
      if (entry.header.name === "SHA256SUMS") promised = await text(content);
      else sums.set(entry.header.name, await sumOf(content));
    }
    await reading;
  } catch (error) {
    throw damaged((error as Error).message);
  }
  const lines = [...sums].map(([name, sum]) => `${sum}  ${name}\n`).join("");
  if (promised === undefined) throw damaged("it has no checksums at its end");
  if (lines !== promised) throw damaged("its files do not fit their checksums");
}

async function sumOf(content: Readable): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of content) hash.update(chunk as Buffer);
  return hash.digest("hex");
}
