import type { Role } from "@berth/api";
import { command, yes } from "../../command.ts";
import { printLink } from "../../password-link.ts";
import { roleNames, rolesAsked } from "../../roles.ts";

export default command<{ role?: Role; admin?: boolean }, [string]>({
  description:
    "Prints a link by which the user sets a password: once, within a day. With --role he has it in the project that --project names, or yours; more roles come with berth user set.",
  parameters: {
    flags: {
      role: {
        kind: "enum",
        values: roleNames,
        brief: "What he may do in the project",
        optional: true,
      },
      admin: yes("Let him administer the whole system"),
    },
    positional: { kind: "tuple", parameters: [{ parse: String, brief: "A name for the user", placeholder: "NAME" }] },
  },
  async run(context, { role, admin }, name) {
    const client = await context.client();
    const made = await client.createUser({
      body: {
        name,
        ...(admin ? { admin } : {}),
        ...(await rolesAsked(context, client, role)),
      },
    });
    printLink(context, client.url, made);
  },
});
