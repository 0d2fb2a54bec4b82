import { proposeCompletions, run as runApplication } from "@stricli/core";
import { applicationFor, exitCodeFrom } from "./application.ts";
import { optionsOf, plainArguments } from "./arguments.ts";
import { Context } from "./command.ts";
import { Exit, exitCodeOf } from "./errors.ts";
import { ownSurroundings, type Surroundings } from "./surroundings.ts";

/** Runs one command line and answers its exit code. */
export async function main(given: readonly string[], outside: Surroundings): Promise<number> {
  // As most programs have it.
  const words = given[0] === "--version" ? ["version", ...given.slice(1)] : given;
  const context = new Context(outside);
  if (words[0] === "__complete") return complete(words.slice(words[1] === "--" ? 2 : 1), context);
  // Known before the options are read, so that what is wrong with them is told as asked, too.
  context.json = optionsOf(words).includes("--json");
  try {
    const { application, called } = await applicationFor(words);
    const inputs = called
      ? [
          ...called.path,
          ...plainArguments(words.slice(called.path.length), called.command.parameters, called.leaf.passOnAfter),
        ]
      : words;
    await runApplication(application, inputs, context);
    if (context.failure) throw context.failure.error;
    return exitCodeFrom(context.process.exitCode);
  } catch (error) {
    if (!(error instanceof Exit)) context.say(error);
    return exitCodeOf(error);
  }
}

/** Prints what the last word could become: for the completion scripts. */
async function complete(words: readonly string[], context: Context): Promise<number> {
  const { application } = await applicationFor(words);
  for (const { completion, brief } of await proposeCompletions(application, words, context)) {
    context.out.print(`${completion}\t${brief}\n`);
  }
  return 0;
}

/** Runs this process's command line. */
export async function run(): Promise<void> {
  // Whoever reads our output may leave, as in `berth ls | head -1`.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit();
      throw error;
    });
  }
  const code = await main(process.argv.slice(2), ownSurroundings());
  // Not before everything is written; and whatever is still open does not keep a finished command.
  await Promise.all(
    [process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write("", resolve))),
  );
  process.exit(code);
}
