import type { Context } from "./command.ts";

/** The id of an operation. */
export const operationArgument = {
  parse: String,
  brief: "An operation's id",
  placeholder: "OPERATION",
  async proposeCompletions(this: Context, partial: string): Promise<readonly string[]> {
    try {
      const client = await this.client();
      const { items } = await client.listOperations({ query: { limit: 50 } }, { signal: AbortSignal.timeout(1000) });
      return items.map(({ id }) => id).filter((id) => id.startsWith(partial));
    } catch {
      return [];
    }
  },
} as const;
