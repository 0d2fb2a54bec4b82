import type { Command } from "@stricli/core";
import type { Context } from "./command.ts";
import { UsageError } from "./errors.ts";

type Parameters = Command<Context>["parameters"];

/**
 * Rewrites arguments as docker takes them into the plain form: `-p8080:80` becomes `-p 8080:80`, and with `passOnAfter` what follows so many arguments gets its `--`
 * when it has none, so that `exec web ls -l` keeps its -l. An option without its value says so here, in the words of a person.
 */
export function plainArguments(
  words: readonly string[],
  parameters: Parameters,
  passOnAfter: number | undefined,
): string[] {
  const plain: string[] = [];
  let given = 0;
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at] ?? "";
    if (word === "--") return [...plain, ...words.slice(at)];
    if (!isOption(word)) {
      if (passOnAfter !== undefined && given === passOnAfter) return [...plain, "--", ...words.slice(at)];
      given += 1;
      plain.push(word);
      continue;
    }
    const [option, attached] = split(word, parameters);
    if (attached === undefined && !takesValue(option, parameters)) {
      plain.push(word);
      continue;
    }
    if (attached === undefined && standsAlone(option, parameters)) {
      plain.push(...withValue(option, ""));
      continue;
    }
    const value = attached ?? words[++at];
    if (value === undefined) throw new UsageError(`${option} needs a value.`);
    plain.push(...withValue(option, value));
  }
  return plain;
}

function isOption(word: string): boolean {
  return /^-[A-Za-z]|^--[A-Za-z]/.test(word);
}

/** An option and the value attached to it: `--name=web`, `-p8080:80`, `-p=80`, `-itu root` for its last letter. */
function split(word: string, parameters: Parameters): readonly [string, string | undefined] {
  const at = word.indexOf("=");
  if (word.startsWith("--")) return at < 0 ? [word, undefined] : [word.slice(0, at), word.slice(at + 1)];
  const option = word.slice(0, 2);
  if (!takesValue(option, parameters) || word.length === 2) return [word, undefined];
  return [option, word.slice(word[2] === "=" ? 3 : 2)];
}

/** Whether a value belongs to an option; unknown ones are left for stricli to complain about. */
function takesValue(option: string, parameters: Parameters): boolean {
  const kind = flagOf(option, parameters)?.kind;
  return kind === "parsed" || kind === "enum";
}

/** Whether an option may be given without its value, which then is only ever attached to it. */
function standsAlone(option: string, parameters: Parameters): boolean {
  const flag = flagOf(option, parameters);
  return flag?.kind === "parsed" && flag.inferEmpty === true;
}

function flagOf(option: string, { flags = {}, aliases = {} }: Parameters) {
  const letter = (aliases as Readonly<Record<string, string>>)[option.slice(1)];
  const name = option.startsWith("--")
    ? option.slice(2).replace(/-(.)/g, (_, next: string) => next.toUpperCase())
    : letter;
  return name === undefined ? undefined : flags[name];
}

/** Stricli takes a value that looks like an option, or is empty, only in one of its two forms. */
function withValue(option: string, value: string): string[] {
  return value === "" || !value.startsWith("-") ? [option, value] : [`${option}=${value}`];
}

/** The words before `--`. */
export function optionsOf(words: readonly string[]): readonly string[] {
  const end = words.indexOf("--");
  return end < 0 ? words : words.slice(0, end);
}
