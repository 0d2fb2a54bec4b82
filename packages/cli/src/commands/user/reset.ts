import { command, userArgument } from "../../command.ts";
import { printLink } from "../../password-link.ts";

export default command<Record<never, never>, [string]>({
  description:
    "Prints a link by which he sets it: once, within a day. Until then the password he has stays; an earlier link is void.",
  parameters: { positional: { kind: "tuple", parameters: [userArgument] } },
  async run(context, _flags, name) {
    const client = await context.client();
    printLink(context, client.url, await client.resetUser({ params: { user: name } }));
  },
});
