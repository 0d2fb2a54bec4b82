import type { Token } from "@berth/api";
import { command, tokenArgument } from "../../command.ts";
import { facts, moment } from "../../text.ts";

export default command<Record<never, never>, [string]>({
  parameters: { positional: { kind: "tuple", parameters: [tokenArgument] } },
  async run(context, _flags, name) {
    const client = await context.client();
    const token = await client.getToken({ params: { token: name } });
    context.print(token, () => facts(describe(token, Date.now())));
  },
});

function describe({ lastUsedAt, ...token }: Token, now: number): [string, string][] {
  return [
    ["Name", token.name],
    ["Id", token.id],
    ["Project", token.project ?? "all: it administers the whole system"],
    ["Role", token.role],
    ["Scopes", token.scopes?.join(", ") ?? "all that its role may"],
    ["Secret", token.prefix === "" ? "unknown" : `${token.prefix}…`],
    ["Expires", token.expiresAt ?? "never"],
    ["Used", lastUsedAt === null ? "never" : moment(lastUsedAt, now)],
    ["Created", moment(token.createdAt, now)],
  ];
}
