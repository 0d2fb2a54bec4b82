import { open } from "node:fs/promises";
import { addAbortSignal, type Readable } from "node:stream";
import { BerthError } from "@berth/api";
import { isNoSpace } from "../host/host.ts";

/** Where the next part of a file goes. */
export interface Reception {
  readonly path: string;
  /** How much of it is there. */
  readonly offset: number;
  /** How long it shall be. */
  readonly sizeBytes: number;
}

/**
 * Appends a body to a file, which may be short of its end; what came before it broke off stays, and all is on disk once it has ended. Rejects with `body_too_large` when there is
 * more than the file shall have: what fits is kept.
 */
export async function receive(
  { path, offset, sizeBytes }: Reception,
  body: Readable,
  signal: AbortSignal,
  told: () => void,
): Promise<void> {
  const file = await open(path, "a", 0o600);
  try {
    let position = offset;
    // Written chunk by chunk: a stream would lose what it holds when the body breaks off.
    for await (const chunk of addAbortSignal(signal, body)) {
      const part = (chunk as Buffer).subarray(0, sizeBytes - position);
      await file.writeFile(part).catch(explain);
      position += part.length;
      told();
      if (part.length < (chunk as Buffer).length)
        throw new BerthError("body_too_large", `${sizeBytes} bytes were announced; more were sent.`);
    }
    await file.sync().catch(explain);
  } finally {
    await file.close();
  }
}

function explain(error: unknown): never {
  if (!isNoSpace(error)) throw error;
  throw new BerthError("disk_full", "No space is left for what is sent.", { cause: error });
}
