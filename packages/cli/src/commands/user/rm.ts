import { command, userArgument } from "../../command.ts";
import { forEach } from "../../follow.ts";

export default command<Record<never, never>, string[]>({
  description: "Their sessions end. Tokens that they made stay: berth token ls.",
  parameters: { positional: { kind: "array", minimum: 1, parameter: userArgument } },
  async run(context, _flags, ...names) {
    const client = await context.client();
    const deleted = await forEach(context, [...new Set(names)], async (name) => {
      const user = await client.deleteUser({ params: { user: name } });
      if (!context.json) context.out.print(`${user.name}\n`);
      return user;
    });
    if (context.json) context.print(deleted, () => "");
  },
});
