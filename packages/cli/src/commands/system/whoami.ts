import { command } from "../../command.ts";
import { facts } from "../../text.ts";

export default command({
  parameters: {},
  async run(context) {
    const client = await context.client();
    const who = await client.whoAmI();
    const inProjects = Object.entries(who.roles).map(([project, role]) => `${role} of ${project}`);
    context.print(who, () =>
      facts([
        ["Name", who.name],
        ["Kind", who.kind],
        ["Berthd", client.url],
        ["Project", context.project ?? who.project],
        ["Roles", who.admin ? "administers the whole system" : inProjects.join(", ") || "none"],
        ["Scopes", who.scopes?.join(", ") ?? "all that the role may"],
        ["Expires", who.expiresAt ?? "never"],
      ]),
    );
  },
});
