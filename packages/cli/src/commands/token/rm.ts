import { command, tokenArgument } from "../../command.ts";
import { forEach } from "../../follow.ts";

export default command<Record<never, never>, string[]>({
  description: "They are refused from now on, and what is open under them ends.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: tokenArgument } },
  async run(context, _flags, ...names) {
    const client = await context.client();
    const revoked = await forEach(context, [...new Set(names)], async (name) => {
      const token = await client.deleteToken({ params: { token: name } });
      if (!context.json) context.out.print(`${token.name}\n`);
      return token;
    });
    if (context.json) context.print(revoked, () => "");
  },
});
