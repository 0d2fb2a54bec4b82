import type { User } from "@berth/api";
import { command, yes } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { age, table } from "../../text.ts";

export default command<{ quiet?: boolean }>({
  parameters: { flags: { quiet: yes("Print names only") }, aliases: { q: "quiet" } },
  async run(context, { quiet }) {
    const client = await context.client();
    const users = await listAll((page) => client.listUsers({ query: page }));
    if (quiet) return context.print(users, () => users.map(({ name }) => `${name}\n`).join(""));
    context.print(users, () =>
      table(
        ["NAME", "ROLES", "LOGIN", "AGE"],
        users.map((user) => row(user, Date.now())),
      ),
    );
  },
});

function row({ name, admin, roles, lastLoginAt, hasPassword, createdAt }: User, now: number): string[] {
  const inProjects = Object.entries(roles).map(([project, role]) => `${project}:${role}`);
  const login = lastLoginAt === null ? (hasPassword ? "never" : "no password") : age(lastLoginAt, now);
  return [name, admin ? "(system)" : inProjects.join(",") || "none", login, age(createdAt, now)];
}
