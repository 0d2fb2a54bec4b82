import { BerthError } from "@berth/api";
import { type Host, ProgramError } from "../host/host.ts";

/** Has nft carry out a text, all of it or nothing. Rejects with `host_program_failed` and nft's own words. */
export async function nft(host: Host, text: string): Promise<void> {
  await run(host, ["-f", "-"], text);
}

/** What nft says in JSON of one table, there or not. */
export async function listTable(host: Host, table: string): Promise<string> {
  // Named first, so that one that is not there is listed as an empty one.
  await nft(host, `table inet ${table}\n`);
  return run(host, ["--json", "list", "table", "inet", table]);
}

async function run(host: Host, args: readonly string[], input?: string): Promise<string> {
  try {
    return (await host.run("nft", args, input === undefined ? {} : { input })).stdout;
  } catch (error) {
    if (!(error instanceof ProgramError)) throw error;
    throw new BerthError("host_program_failed", error.message, { cause: error });
  }
}
