import { join } from "node:path";
import { z } from "zod";
import type { Host } from "./host/host.ts";

/** What `listen` in the data folder says: an address, and which process listens there. */
const ListenFile = z.object({
  url: z.string(),
  process: z.object({ pid: z.number(), startTicks: z.string(), bootId: z.string() }),
});

/**
 * Tells the clients of this machine where this process listens. They believe it while this process lives: the address of one that was killed may be anybody's by
 * now, and the administrator's token lies beside it.
 */
export async function writeListenFile(host: Host, dataDir: string, url: string): Promise<void> {
  const self = await host.identify(process.pid);
  await host.files.writeAtomic(path(dataDir), `${JSON.stringify({ url, process: self })}\n`, { mode: 0o600 });
}

/** Where the berthd of a data folder listens; undefined when none does. */
export async function readListenFile(host: Host, dataDir: string): Promise<string | undefined> {
  const text = await host.files.readText(path(dataDir));
  const told = ListenFile.safeParse(parseOrNull(text ?? ""));
  return told.success && (await host.isAlive(told.data.process)) ? told.data.url : undefined;
}

/** Before the address is given up: from then on another may have it. */
export async function removeListenFile(host: Host, dataDir: string): Promise<void> {
  await host.files.remove(path(dataDir));
}

function path(dataDir: string): string {
  return join(dataDir, "listen");
}

function parseOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
