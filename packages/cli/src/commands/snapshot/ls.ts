import type { Snapshot } from "@berth/api";
import { command, text, yes } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { age, bytes, table } from "../../text.ts";

export default command<{ instance?: string; quiet?: boolean }>({
  parameters: {
    flags: {
      instance: text("Only those of this instance: its name, or its id when it is gone", "NAME"),
      quiet: yes("Print names only"),
    },
    aliases: { q: "quiet" },
  },
  async run(context, { instance, quiet }) {
    const client = await context.client();
    const query = instance === undefined ? {} : { instance };
    const snapshots = await listAll((page) => client.listSnapshots({ query: { ...query, ...page } }));
    if (quiet) return context.print(snapshots, () => snapshots.map(({ name }) => `${name}\n`).join(""));
    context.print(snapshots, () =>
      table(
        ["NAME", "INSTANCE", "KIND", "MADE", "STATE", "AGE", "OWN", "SHARED", "VERIFIED"],
        snapshots.map((snapshot) => row(snapshot, Date.now())),
      ),
    );
  },
});

function row(snapshot: Snapshot, now: number): string[] {
  const { name, instanceName, kind, automatic, state, createdAt, ownBytes, sharedBytes, verification } = snapshot;
  const verified = verification.verdict === "unverified" ? "-" : verification.verdict;
  const made = automatic ? "by schedule" : "by hand";
  return [name, instanceName, kind, made, state, age(createdAt, now), bytes(ownBytes), bytes(sharedBytes), verified];
}
