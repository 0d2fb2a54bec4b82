import type { Archive } from "@berth/api";
import { command, yes } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { age, bytes, table } from "../../text.ts";

export default command<{ quiet?: boolean }>({
  parameters: { flags: { quiet: yes("Print ids only") }, aliases: { q: "quiet" } },
  async run(context, { quiet }) {
    const client = await context.client();
    const archives = await listAll((page) => client.listArchives({ query: page }));
    if (quiet) return context.print(archives, () => archives.map(({ id }) => `${id}\n`).join(""));
    const now = Date.now();
    context.print(archives, () =>
      table(
        ["FILE", "ID", "STATE", "SIZE", "AGE"],
        archives.map((archive) => row(archive, now)),
      ),
    );
  },
});

/** One that is on its way shows how far it is. */
function sizeText(sizeBytes: number | null, receivedBytes: number): string {
  if (sizeBytes === null) return "-";
  return receivedBytes < sizeBytes ? `${bytes(receivedBytes)} of ${bytes(sizeBytes)}` : bytes(sizeBytes);
}

function row({ name, id, state, sizeBytes, receivedBytes, createdAt }: Archive, now: number): string[] {
  return [name, id, state, sizeText(sizeBytes, receivedBytes), age(createdAt, now)];
}
