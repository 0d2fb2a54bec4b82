import type { Context } from "../../command.ts";
import { command, instanceArgument, text } from "../../command.ts";
import { Exit, exitCodes, UsageError, UserError } from "../../errors.ts";
import { askGuest, runInGuest } from "../../terminal.ts";

/** How each shell is found, and the best one named: bash where there is one. */
const probes = [
  ["sh", "-c", "if command -v bash >/dev/null 2>&1; then echo bash; else echo sh; fi"],
  ["bash", "-c", "echo bash"],
];

export default command<{ user?: string }, [string]>({
  description: "Bash where the image has it, else sh. Needs a terminal; for scripts there is berth exec.",
  parameters: {
    flags: { user: text("Run as this user, with or without :group", "USER") },
    aliases: { u: "user" },
    positional: { kind: "tuple", parameters: [instanceArgument] },
  },
  async run(context, { user }, instance) {
    if (!context.outside.stdin.isTTY)
      throw new UsageError("A shell needs a terminal.", "For scripts: berth exec NAME -- CMD…");
    const shell = await findShell(context, instance);
    if (!shell) {
      throw new UserError(
        `The image of ${instance} has no shell.`,
        `Run one of its programs: berth exec ${instance} -- CMD…`,
        exitCodes.berth,
      );
    }
    const request = { command: [shell], tty: true, stdin: true, ...(user === undefined ? {} : { user }) };
    throw new Exit(await runInGuest(context, instance, request));
  },
});

async function findShell(context: Context, instance: string): Promise<string | undefined> {
  for (const command of probes) {
    const { exitCode, stdout } = await askGuest(context, instance, command);
    if (exitCode === 0) return stdout.trim() === "bash" ? "bash" : "sh";
  }
  return undefined;
}
