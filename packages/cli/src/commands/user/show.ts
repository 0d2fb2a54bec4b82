import type { User } from "@berth/api";
import { command, userArgument } from "../../command.ts";
import { describeRoles } from "../../roles.ts";
import { facts, moment } from "../../text.ts";

export default command<Record<never, never>, [string]>({
  parameters: { positional: { kind: "tuple", parameters: [userArgument] } },
  async run(context, _flags, name) {
    const client = await context.client();
    const user = await client.getUser({ params: { user: name } });
    context.print(user, () => facts(describe(user, Date.now())));
  },
});

function describe(
  { name, id, admin, roles, hasPassword, lastLoginAt, createdAt }: User,
  now: number,
): [string, string][] {
  return [
    ["Name", name],
    ["Id", id],
    ["Roles", describeRoles(admin, roles)],
    ["Password", hasPassword ? "set" : "not set yet"],
    ["Login", lastLoginAt === null ? "never" : moment(lastLoginAt, now)],
    ["Created", moment(createdAt, now)],
  ];
}
