import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

/** The `sha256:…` of a file's bytes; undefined when there is no file, or the disk cannot read it. Rejects with the signal's reason. */
export async function digestOfFile(path: string, signal?: AbortSignal): Promise<string | undefined> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024, signal }))
      hash.update(chunk as Buffer);
  } catch (error) {
    signal?.throwIfAborted();
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "EIO"))
      return undefined;
    throw error;
  }
  return `sha256:${hash.digest("hex")}`;
}
