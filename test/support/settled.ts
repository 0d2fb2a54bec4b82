import type { Client, Operation } from "@berth/api";

/** Resolves with the latest operations, newest first, once nothing is left to be done. */
export async function settled(client: Client): Promise<readonly Operation[]> {
  for (;;) {
    const { items } = await client.listOperations({ query: { unfinished: true } });
    const [next] = items;
    if (!next) return (await client.listOperations({ query: { limit: 20 } })).items;
    await client.waitOperation({ params: { operation: next.id }, query: { timeout: 20 } });
  }
}
