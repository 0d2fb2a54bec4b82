import type { Client } from "@berth/api";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";

/** A file of a fake guest, which is in its memory: what stands in it tells which memory the guest went on from. */
export function guestNote(client: () => Client) {
  const read = async (instance: string): Promise<string> => {
    const archive = await client().readFiles({ params: { instance }, query: { path: "/note" } });
    const bytes = Buffer.from(await new Response(archive).arrayBuffer());
    return bytes.subarray(512, 512 + Number.parseInt(bytes.toString("latin1", 124, 135), 8)).toString();
  };
  const write = (instance: string, content: string) =>
    client().writeFiles({ params: { instance }, query: { path: "/" }, body: writeTar([{ path: "note", content }]) });
  return { read, write };
}
