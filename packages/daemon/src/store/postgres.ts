import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { WakeChannel } from "./wake.ts";

/** The channel of LISTEN and NOTIFY; its payload is the topic. */
export const notifyChannel = "berth";

/** How long to wait before connecting again. */
const reconnectMs = 500;

/** A pool of connections. 64-bit numbers come as numbers: none of ours passes 2^53. */
export function openPool(url: string, onError: (error: Error) => void): pg.Pool {
  const int8 = 20;
  const pool = new pg.Pool({
    connectionString: url,
    max: 10,
    application_name: "berthd",
    types: {
      getTypeParser: (oid: number, format?: "text" | "binary") =>
        oid === int8 ? Number : (pg.types.getTypeParser(oid, format as "text") as (text: string) => unknown),
    } as pg.CustomTypesConfig,
  });
  // An idle connection that breaks is taken out of the pool; without a listener it would end the process.
  pool.on("error", onError);
  return pool;
}

/** Hands wake-ups of all daemons on the store to this process, connecting again for as long as it takes. Resolves once aborted. */
export async function listen(
  url: string,
  wake: WakeChannel,
  signal: AbortSignal,
  onError: (error: Error) => void,
): Promise<void> {
  while (!signal.aborted) {
    const client = new pg.Client({ connectionString: url, application_name: "berthd wake-ups" });
    const ended = Promise.withResolvers<void>();
    const end = () => ended.resolve();
    try {
      client.on("error", onError);
      client.on("end", end);
      client.on("notification", (message) => wake.emit(message.payload ?? ""));
      signal.addEventListener("abort", end);
      await client.connect();
      await client.query(`listen ${notifyChannel}`);
      await ended.promise;
    } catch (error) {
      onError(error as Error);
    } finally {
      signal.removeEventListener("abort", end);
      await client.end().catch(() => undefined);
    }
    await delay(reconnectMs, undefined, { signal }).catch(() => undefined);
  }
}
