import {
  type Application,
  type ApplicationText,
  buildApplication,
  buildCommand,
  buildRouteMap,
  type Command,
  ExitCode,
  help,
  text_en,
} from "@stricli/core";
import type { Context } from "./command.ts";
import { exitCodes } from "./errors.ts";
import { aliases, findLeaf, type Leaf, tree } from "./tree.ts";

const text: ApplicationText = {
  ...text_en,
  briefs: { ...text_en.briefs, argumentEscapeSequence: "What follows is passed on as it is" },
  exceptionWhileParsingArguments(error, ansiColor) {
    return `berth: ${text_en.exceptionWhileParsingArguments.call(this, error, ansiColor)}`;
  },
  noCommandRegisteredForInput(input) {
    return `berth: ${text_en.noCommandRegisteredForInput(input)}`;
  },
};

const brief = "Virtual machines from container images";

/**
 * The command line application. Only the command that `words` call is loaded, so that starting is quick; of the others their names and briefs are known, which is all
 * that help and completion need of them.
 */
export async function applicationFor(words: readonly string[]): Promise<{
  readonly application: Application<Context>;
  readonly called:
    | { readonly path: readonly string[]; readonly leaf: Leaf; readonly command: Command<Context> }
    | undefined;
}> {
  const found = findLeaf(words);
  const called = found && { ...found, command: (await found.leaf.load()).default(found.leaf.brief) };
  const commandOf = (leaf: Leaf) => (leaf === called?.leaf ? called.command : placeholder(leaf));
  const routes = Object.entries(tree).map(([noun, entry]) => {
    if ("load" in entry) return [noun, commandOf(entry)] as const;
    const inner = Object.entries(entry.routes).map(([verb, leaf]) => [verb, commandOf(leaf)] as const);
    return [
      noun,
      buildRouteMap<string, Context>({ routes: Object.fromEntries(inner), docs: { brief: entry.brief } }),
    ] as const;
  });
  const root = buildRouteMap<string, Context>({ routes: Object.fromEntries(routes), aliases, docs: { brief } });
  const application = buildApplication(
    root,
    {
      name: "berth",
      scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
      documentation: { disableAnsiColor: true },
      localization: { text },
    },
    {
      help: help<Context>({
        brief: text_en.briefs.help,
        defaultForRouteMap: true,
        complete: true,
        formatting: { useAliasInUsageLine: false, onlyRequiredInUsageLine: true, caseStyle: "convert-camel-to-kebab" },
      }),
    },
  );
  return { application, called };
}

function placeholder(leaf: Leaf): Command<Context> {
  return buildCommand<Record<never, never>, [], Context>({ func() {}, parameters: {}, docs: { brief: leaf.brief } });
}

/** Stricli's exit codes as ours. */
export function exitCodeFrom(code: number | string | null | undefined): number {
  if (code === ExitCode.UnknownCommand || code === ExitCode.InvalidArgument) return exitCodes.usage;
  const number = Number(code ?? exitCodes.ok);
  return number < 0 ? exitCodes.failed : number;
}
