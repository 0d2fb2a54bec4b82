import { command } from "../../command.ts";
import { forEach } from "../../follow.ts";
import { operationArgument } from "../../operation-argument.ts";

export default command<Record<never, never>, string[]>({
  description: "Asks for it to be cancelled and returns at once; berth op wait waits until what it made is taken back.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: operationArgument } },
  async run(context, _flags, ...ids) {
    const client = await context.client();
    const cancelled = await forEach(context, ids, async (operation) => {
      const answer = await client.cancelOperation({ params: { operation } });
      if (!context.json) context.out.print(`${answer.id}\n`);
      return answer;
    });
    if (context.json) context.print(cancelled, () => "");
  },
});
