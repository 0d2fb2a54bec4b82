import type { CallOptions, Client, InstanceChange } from "@berth/api";
import type { Context } from "./command.ts";
import { follow, forEach } from "./follow.ts";

/** Asks for a change of each instance, follows it to its end and prints the name; with --json, the changes. */
export async function changeInstances(
  context: Context,
  names: readonly string[],
  change: (client: Client, name: string, options: CallOptions) => Promise<InstanceChange>,
): Promise<void> {
  const client = await context.client();
  const changes = await forEach(context, [...new Set(names)], async (name) => {
    const { instance, operation } = await change(client, name, { idempotencyKey: crypto.randomUUID() });
    const ended = await follow(context, operation);
    if (!context.json) context.out.print(`${instance.name}\n`);
    return {
      instance: await client.getInstance({ params: { instance: instance.id } }).catch(() => instance),
      operation: ended,
    };
  });
  if (context.json) context.print(changes, () => "");
}
