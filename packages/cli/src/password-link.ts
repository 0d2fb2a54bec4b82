import type { UserReset } from "@berth/api";
import type { Context } from "./command.ts";

/** Prints the link by which a user sets a password. What is behind the # stays in his browser. */
export function printLink(context: Context, url: string, reset: UserReset): void {
  context.print(reset, () => `${url}/password#${reset.code}\n`);
  if (!context.json) context.out.say(`${reset.user.name} sets a password there: once, until ${reset.expiresAt}.`);
}
