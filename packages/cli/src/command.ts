import type { Client } from "@berth/api";
import { buildCommand, type Command, type CommandContext, type TypedCommandParameters } from "@stricli/core";
import { asProblem, formatError } from "./errors.ts";
import { Output } from "./output.ts";
import { readSettings, type Settings } from "./settings.ts";
import type { Surroundings } from "./surroundings.ts";

/** What every command works with. */
export class Context implements CommandContext {
  readonly outside: Surroundings;
  /** What stricli writes its own words to. */
  readonly process: CommandContext["process"] & {
    readonly env: Surroundings["env"];
    exitCode?: number | string | null;
  };
  readonly out: Output;
  /** Whether --json was given. */
  json = false;
  /** What --project was given. */
  project: string | undefined;
  /** What the command threw. */
  failure: { readonly error: unknown } | undefined;
  #client: Promise<Client> | undefined;

  readonly #settings: Settings | undefined;

  /** With the settings given, else those that are found. */
  constructor(outside: Surroundings, settings?: Settings) {
    this.outside = outside;
    this.#settings = settings;
    this.process = { stdout: outside.stdout, stderr: outside.stderr, env: outside.env };
    this.out = new Output(outside);
  }

  /** The client of the berthd that the settings name. */
  client(): Promise<Client> {
    this.#client ??= (async () => {
      const [settings, { createClient }] = await Promise.all([
        this.#settings ?? readSettings(this.outside),
        import("@berth/api"),
      ]);
      // A session in a guest shows its token without waiting.
      await settings.renew?.();
      return createClient(this.project === undefined ? settings : { ...settings, project: this.project });
    })();
    return this.#client;
  }

  /** Tells an error on standard error: in words, or as a problem with --json. */
  say(error: unknown): void {
    this.outside.stderr.write(`${this.json ? JSON.stringify(asProblem(error)) : formatError(error)}\n`);
  }

  /** Prints a result: as JSON when that was asked for, else as the text. */
  print(value: unknown, text: () => string): void {
    this.out.print(this.json ? `${JSON.stringify(value, null, 2)}\n` : text());
  }
}

type Flags = Readonly<Record<string, unknown>>;
type Arguments = readonly unknown[];

/** A command as a value: what it takes and what it does. Every command also takes --json and --project. */
interface Definition<F extends Flags, A extends Arguments> {
  readonly parameters: NoInfer<TypedCommandParameters<F, A, Context>>;
  /** More than the one line that the command tree has; shown by --help. */
  readonly description?: string;
  readonly usage?: readonly string[];
  readonly run: (context: Context, flags: F, ...args: A) => Promise<void> | void;
}

/** Makes the stricli command of a definition, once the tree gives it its brief. */
export type CommandValue = (brief: string) => Command<Context>;

const jsonFlag = { kind: "boolean", brief: "Print JSON", optional: true, withNegated: false } as const;
const projectFlag = {
  kind: "parsed",
  parse: String,
  brief: "The project; BERTH_PROJECT or the token's own when not given",
  placeholder: "PROJECT",
  optional: true,
} as const;

export function command<const F extends Flags = Record<never, never>, const A extends Arguments = []>(
  definition: Definition<F, A>,
): CommandValue {
  const parameters = definition.parameters as { readonly flags?: object };
  return (brief) =>
    buildCommand<{ json?: boolean; project?: string }, [], Context>({
      docs: {
        brief,
        ...(definition.description ? { fullDescription: `${brief}\n\n${definition.description}` } : {}),
        ...(definition.usage ? { customUsage: definition.usage } : {}),
      },
      // The types were held together where the definition was written.
      parameters: { ...parameters, flags: { ...parameters.flags, project: projectFlag, json: jsonFlag } } as never,
      async func(this: Context, flags, ...args) {
        this.json = flags.json ?? false;
        this.project = flags.project;
        try {
          await definition.run(this, flags as unknown as F, ...(args as unknown as A));
        } catch (error) {
          this.failure = { error };
        }
      },
    });
}

/** A flag that is there or not. */
export function yes(brief: string) {
  return { kind: "boolean", brief, optional: true, withNegated: false } as const;
}

/** A flag with a text. */
export function text(brief: string, placeholder: string) {
  return { kind: "parsed", parse: String, brief, placeholder, optional: true } as const;
}

/** A flag with a text that may be given several times. */
export function texts(brief: string, placeholder: string) {
  return { kind: "parsed", parse: String, brief, placeholder, optional: true, variadic: true } as const;
}

/** A flag with a whole number from 0 on. */
export function count(brief: string, placeholder = "N") {
  return { kind: "parsed", parse: parseCount, brief, placeholder, optional: true } as const;
}

function parseCount(input: string): number {
  if (!/^\d{1,9}$/.test(input)) throw new SyntaxError("must be a whole number");
  return Number(input);
}

/** Completes what names one of those listed: whoever does not answer within a moment has none. */
function proposing<T>(
  list: (
    client: Client,
    input: { readonly query: { readonly limit: number } },
    options: { readonly signal: AbortSignal },
  ) => Promise<{ readonly items: readonly T[] }>,
  wordOf: (one: T) => string,
) {
  return async function (this: Context, partial: string): Promise<readonly string[]> {
    try {
      const client = await this.client();
      const { items } = await list(client, { query: { limit: 500 } }, { signal: AbortSignal.timeout(1000) });
      return items.map(wordOf).filter((word) => word.startsWith(partial));
    } catch {
      return [];
    }
  };
}

/** The name or id of an instance. */
export const instanceArgument = {
  parse: String,
  brief: "An instance's name or id",
  placeholder: "NAME",
  proposeCompletions: proposing(
    (client, ...asked) => client.listInstances(...asked),
    ({ name }) => name,
  ),
} as const;

/** The id of a template. */
export const templateArgument = {
  parse: String,
  brief: "A template's id",
  placeholder: "TEMPLATE",
  proposeCompletions: proposing(
    (client, ...asked) => client.listTemplates(...asked),
    ({ id }) => id,
  ),
} as const;

/** The name or id of a token. */
export const tokenArgument = {
  parse: String,
  brief: "A token's name or id",
  placeholder: "TOKEN",
  proposeCompletions: proposing(
    (client, ...asked) => client.listTokens(...asked),
    ({ name }) => name,
  ),
} as const;

/** The name or id of a user. */
export const userArgument = {
  parse: String,
  brief: "A user's name or id",
  placeholder: "USER",
  proposeCompletions: proposing(
    (client, ...asked) => client.listUsers(...asked),
    ({ name }) => name,
  ),
} as const;

/** The name of a project. */
export const projectArgument = {
  parse: String,
  brief: "A project's name",
  placeholder: "PROJECT",
  proposeCompletions: proposing(
    (client, ...asked) => client.listProjects(...asked),
    ({ name }) => name,
  ),
} as const;

/** The name or id of a pool. */
export const poolArgument = {
  parse: String,
  brief: "A pool's name or id",
  placeholder: "POOL",
  proposeCompletions: proposing(
    (client, ...asked) => client.listPools(...asked),
    ({ name }) => name,
  ),
} as const;

/** One or several instances. */
export const instanceArguments = { kind: "array", parameter: instanceArgument, minimum: 1 } as const;

/** The name or id of a snapshot. */
export const snapshotArgument = {
  parse: String,
  brief: "A snapshot's name or id",
  placeholder: "SNAPSHOT",
  proposeCompletions: proposing(
    (client, ...asked) => client.listSnapshots(...asked),
    ({ name }) => name,
  ),
} as const;

/** One or several snapshots. */
export const snapshotArguments = { kind: "array", parameter: snapshotArgument, minimum: 1 } as const;
