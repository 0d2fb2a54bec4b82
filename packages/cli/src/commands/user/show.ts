import type { User } from "@berth/api";
import { command, userArgument } from "../../command.ts";
import { age, facts } from "../../text.ts";

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
  const inProjects = Object.entries(roles).map(([project, role]) => `${role} of ${project}`);
  return [
    ["Name", name],
    ["Id", id],
    ["Roles", admin ? "administers the whole system" : inProjects.join(", ") || "none"],
    ["Password", hasPassword ? "set" : "not set yet"],
    ["Login", lastLoginAt === null ? "never" : `${lastLoginAt} (${age(lastLoginAt, now)} ago)`],
    ["Created", `${createdAt} (${age(createdAt, now)} ago)`],
  ];
}
