import { command, yes } from "../../command.ts";
import { operationArgument } from "../../operation-argument.ts";

export default command<{ follow?: boolean }, [string]>({
  parameters: {
    flags: { follow: yes("Go on with new lines until it ends") },
    aliases: { f: "follow" },
    positional: { kind: "tuple", parameters: [operationArgument] },
  },
  async run(context, { follow }, operation) {
    const client = await context.client();
    const left = new AbortController();
    const stopListening = context.outside.onInterrupt(() => left.abort());
    try {
      const log = await client.operationLog({ params: { operation }, query: { follow } }, { signal: left.signal });
      if (!context.json) return await context.out.copy(log);
      const lines = (await new Response(log).text()).split("\n");
      context.print(lines.at(-1) === "" ? lines.slice(0, -1) : lines, () => "");
    } catch (error) {
      if (!left.signal.aborted) throw error;
    } finally {
      stopListening();
    }
  },
});
