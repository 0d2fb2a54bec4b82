import { command, instanceArgument, text, texts, yes } from "../../command.ts";
import { readEnvironment } from "../../environment.ts";
import { Exit, UsageError } from "../../errors.ts";
import { runInGuest } from "../../terminal.ts";

type Flags = {
  interactive?: boolean;
  tty?: boolean;
  user?: string;
  workdir?: string;
  env?: string[];
};

export default command<Flags, [string, ...string[]]>({
  description:
    "Ends with the program's exit code; 126 and 127 mean that it could not be run or was not found, 125 that Berth could not try. What follows NAME is the " +
    "command, with or without -- before it.",
  usage: ["[-i] [-t] [-u USER] [-w FOLDER] [-e K=V] NAME -- CMD…"],
  parameters: {
    flags: {
      interactive: yes("Send standard input"),
      tty: yes("Give it a terminal"),
      user: text("Run as this user, with or without :group", "USER"),
      workdir: text("Run in this folder", "FOLDER"),
      env: texts("Set a variable: K=V, or K for your own value", "K=V"),
    },
    aliases: { i: "interactive", t: "tty", u: "user", w: "workdir", e: "env" },
    positional: {
      kind: "array",
      minimum: 2,
      parameter: { ...instanceArgument, brief: "An instance's name or id, and then the command" },
    } as never,
  },
  async run(context, flags, instance, ...words) {
    if (flags.tty && flags.interactive && !context.outside.stdin.isTTY)
      throw new UsageError("With -t, standard input must be a terminal.", "Leave -t out.");
    if (flags.tty && context.json) throw new UsageError("A terminal has no JSON form.", "Leave -t out.");
    const env = await readEnvironment(flags.env ?? [], [], context.outside.env);
    const request = {
      command: words,
      env,
      stdin: flags.interactive ?? false,
      tty: flags.tty ?? false,
      ...(flags.user === undefined ? {} : { user: flags.user }),
      ...(flags.workdir === undefined ? {} : { workingDir: flags.workdir }),
    };
    throw new Exit(await runInGuest(context, instance, request));
  },
});
