import type { CallOptions, Client, SnapshotChange } from "@berth/api";
import type { Context } from "./command.ts";
import { follow, forEach } from "./follow.ts";

/** Asks for work on each snapshot, follows it to its end and prints the name; with --json, the changes. */
export async function changeSnapshots(
  context: Context,
  names: readonly string[],
  change: (client: Client, name: string, options: CallOptions) => Promise<SnapshotChange>,
): Promise<void> {
  const client = await context.client();
  const changes = await forEach(context, [...new Set(names)], async (name) => {
    const { snapshot, operation } = await change(client, name, { idempotencyKey: crypto.randomUUID() });
    const ended = await follow(context, operation);
    if (!context.json) context.out.print(`${snapshot.name}\n`);
    return {
      snapshot: await client.getSnapshot({ params: { snapshot: snapshot.id } }).catch(() => snapshot),
      operation: ended,
    };
  });
  if (context.json) context.print(changes, () => "");
}
