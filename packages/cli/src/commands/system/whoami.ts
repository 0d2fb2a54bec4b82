import { command } from "../../command.ts";
import { describeRoles } from "../../roles.ts";
import { facts } from "../../text.ts";

export default command({
  parameters: {},
  async run(context) {
    const client = await context.client();
    const who = await client.whoAmI();
    context.print(who, () =>
      facts([
        ["Name", who.name],
        ["Kind", who.kind],
        ["Berthd", client.url],
        ["Project", context.project ?? who.project],
        ["Roles", describeRoles(who.admin, who.roles)],
        ["Scopes", who.scopes?.join(", ") ?? "all that the role may"],
        ["Expires", who.expiresAt ?? "never"],
      ]),
    );
  },
});
