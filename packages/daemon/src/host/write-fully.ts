import type { FileHandle } from "node:fs/promises";

/** Writes all of these bytes at a position. One write may take only a part, as when the disk is nearly full; the one after it says why. */
export async function writeFully(file: Pick<FileHandle, "write">, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
}
