import type { Client } from "@berth/api";
import type { Context } from "./command.ts";
import { forEach } from "./follow.ts";

/** Deletes records, which go at once and without an operation, one after the other, and prints each one's name. */
export async function deleteRecords<T extends { readonly name: string }>(
  context: Context,
  names: readonly string[],
  remove: (client: Client, name: string) => Promise<T>,
): Promise<void> {
  const client = await context.client();
  const deleted = await forEach(context, [...new Set(names)], async (name) => {
    const record = await remove(client, name);
    if (!context.json) context.out.print(`${record.name}\n`);
    return record;
  });
  if (context.json) context.print(deleted, () => "");
}
