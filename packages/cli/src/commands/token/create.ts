import type { Role } from "@berth/api";
import { parseSpan } from "../../amounts.ts";
import { command, text, texts, yes } from "../../command.ts";
import { UsageError } from "../../errors.ts";
import { roleNames } from "../../roles.ts";

type Flags = {
  name?: string;
  role?: Role;
  scope?: readonly string[];
  expires?: number;
  system?: boolean;
};

export default command<Flags>({
  description:
    "Prints the token's secret, this once: berthd keeps only what it can be recognised by. The token is for the project that --project names, or yours. A viewer may look, an operator " +
    "also change and use what there is, an admin also make tokens.",
  parameters: {
    flags: {
      name: text("A name for it; required", "NAME"),
      role: {
        kind: "enum",
        values: roleNames,
        brief: "What it may do in its project, viewer when not given",
        optional: true,
      },
      scope: texts("Limits it further: instance, or image:read; may be given several times", "SCOPE"),
      expires: {
        kind: "parsed",
        parse: parseSpan,
        brief: "How long it is good for: 12h, 30d; for ever when not given",
        placeholder: "TIME",
        optional: true,
      },
      system: yes("Let it administer the whole system, instead of one project"),
    },
  },
  async run(context, { name, role, scope, expires, system }) {
    if (name === undefined) throw new UsageError("A token needs a name.", "Write: berth token create --name ci");
    if (system && role !== undefined) throw new UsageError("--system is a role of its own: leave --role out.");
    const client = await context.client();
    const made = await client.createToken({
      body: {
        name,
        ...(role === undefined ? {} : { role }),
        ...(scope === undefined ? {} : { scopes: [...scope] }),
        ...(expires === undefined ? {} : { expiresAt: new Date(Date.now() + expires).toISOString() }),
        ...(system ? { system } : {}),
      },
    });
    context.print(made, () => `${made.secret}\n`);
    if (!context.json)
      context.out.say(`The secret is shown this once. Revoke it with: berth token rm ${made.token.name}`);
  },
});
