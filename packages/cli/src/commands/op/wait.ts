import { command } from "../../command.ts";
import { Exit, exitCodes } from "../../errors.ts";
import { failureOf, followToEnd } from "../../follow.ts";
import { operationArgument } from "../../operation-argument.ts";

export default command<Record<never, never>, [string]>({
  description: "Shows its progress and prints how it ended. Ends with exit code 1 unless it succeeded.",
  parameters: { positional: { kind: "tuple", parameters: [operationArgument] } },
  async run(context, _flags, operation) {
    const client = await context.client();
    const ended = await followToEnd(context, await client.getOperation({ params: { operation } }));
    context.print(ended, () => `${ended.status}\n`);
    if (ended.status === "succeeded") return;
    if (!context.json) throw failureOf(ended);
    throw new Exit(exitCodes.failed);
  },
});
