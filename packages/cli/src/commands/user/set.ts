import type { Role } from "@berth/api";
import { command, userArgument, yes } from "../../command.ts";
import { UsageError } from "../../errors.ts";
import { roleNames, rolesAsked } from "../../roles.ts";

export default command<{ role?: Role | "none"; admin?: boolean; noAdmin?: boolean }, [string]>({
  description:
    "Holds from his next request on, and for what he has open. The role is in the project that --project names, or yours.",
  parameters: {
    flags: {
      role: {
        kind: "enum",
        values: [...roleNames, "none"],
        brief: "What he may do in the project; none takes it away",
        optional: true,
      },
      admin: yes("Let him administer the whole system"),
      noAdmin: yes("Let him administer the whole system no more"),
    },
    positional: { kind: "tuple", parameters: [userArgument] },
  },
  async run(context, { role, admin, noAdmin }, name) {
    if (admin && noAdmin) throw new UsageError("Say either --admin or --no-admin.");
    if (role === undefined && !admin && !noAdmin)
      throw new UsageError("Say what to change: --role, --admin or --no-admin.");
    const client = await context.client();
    const user = await client.changeUser({
      params: { user: name },
      body: {
        ...(admin || noAdmin ? { admin: admin ?? false } : {}),
        ...(await rolesAsked(context, client, role === "none" ? null : role)),
      },
    });
    context.print(user, () => `${user.name}\n`);
  },
});
