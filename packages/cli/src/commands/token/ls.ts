import type { Token } from "@berth/api";
import { command, yes } from "../../command.ts";
import { listAll } from "../../pages.ts";
import { age, table } from "../../text.ts";

export default command<{ quiet?: boolean }>({
  description: "Those of the project; all of them for who administers the whole system and names none.",
  parameters: { flags: { quiet: yes("Print names only") }, aliases: { q: "quiet" } },
  async run(context, { quiet }) {
    const client = await context.client();
    const tokens = await listAll((page) => client.listTokens({ query: page }));
    if (quiet) return context.print(tokens, () => tokens.map(({ name }) => `${name}\n`).join(""));
    context.print(tokens, () =>
      table(
        ["NAME", "PROJECT", "ROLE", "SCOPES", "EXPIRES", "USED", "AGE"],
        tokens.map((token) => row(token, Date.now())),
      ),
    );
  },
});

function row({ name, project, role, scopes, expiresAt, lastUsedAt, createdAt }: Token, now: number): string[] {
  return [
    name,
    project ?? "(system)",
    role,
    scopes?.join(",") ?? "all",
    expiryOf(expiresAt, now),
    lastUsedAt === null ? "never" : age(lastUsedAt, now),
    age(createdAt, now),
  ];
}

function expiryOf(expiresAt: string | null, now: number): string {
  if (expiresAt === null) return "never";
  return Date.parse(expiresAt) <= now ? "expired" : expiresAt.slice(0, 10);
}
