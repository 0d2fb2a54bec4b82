import type { Problem } from "@berth/api";
import { plainText } from "./text.ts";

/** What the exit codes mean; docs/cli.md says it too. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, berth: 125, interrupted: 130 } as const;

/** The thing asked for cannot be done, in words for the person who asked. */
export class UserError extends Error {
  readonly hint: string;
  readonly exitCode: number;

  constructor(message: string, hint = "", exitCode: number = exitCodes.failed) {
    super(message);
    this.name = "UserError";
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

/** The command line makes no sense. */
export class UsageError extends UserError {
  constructor(message: string, hint = "") {
    super(message, hint, exitCodes.usage);
    this.name = "UsageError";
  }
}

/** The command ends with this code and has nothing more to say. */
export class Exit extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.name = "Exit";
    this.exitCode = exitCode;
  }
}

/** An operation that did not succeed. */
export class OperationFailed extends Error {
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.detail);
    this.name = "OperationFailed";
    this.problem = problem;
  }
}

/** A failed call of the API; recognised by its shape, so that commands which call nothing need not load the client. */
function problemOf(error: unknown): Problem | undefined {
  const problem = (error as { problem?: Problem } | undefined)?.problem;
  return typeof problem?.code === "string" ? problem : undefined;
}

export function exitCodeOf(error: unknown): number {
  const code = (error as { exitCode?: unknown } | undefined)?.exitCode;
  return typeof code === "number" ? code : exitCodes.failed;
}

/** An error as a problem, for --json. */
export function asProblem(error: unknown): object {
  const problem = problemOf(error);
  if (problem) return problem;
  const hint = error instanceof UserError ? error.hint : hintOf(error);
  return { title: "The command failed", detail: messageOf(error), hint };
}

/** An error as a person reads it: what went wrong, the particulars, what to do next. */
export function formatError(error: unknown): string {
  const problem = problemOf(error);
  const lines = problem
    ? [
        `berth: ${problem.title}`,
        problem.detail,
        ...(problem.errors ?? [])
          .map(({ path, message }) => `${path}: ${message}`)
          .filter((line) => line !== problem.detail)
          .map((line) => `  ${line}`),
      ]
    : [`berth: ${messageOf(error)}`];
  const hint = problem?.hint ?? (error instanceof UserError ? error.hint : hintOf(error));
  if (problem?.operationId) lines.push(`Operation: ${problem.operationId}`);
  if (hint) lines.push(`Hint: ${hint}`);
  return lines.filter(Boolean).map(plainText).join("\n");
}

function hintOf(error: unknown): string {
  if (!(error instanceof Error) || error.name !== "UnreachableError") return "";
  return "Is berthd up? In a clone, npm start starts it; BERTH_URL says where it is when it is elsewhere; berth doctor tells what is being asked.";
}

function messageOf(error: unknown): string {
  const { code = "", path } = error as NodeJS.ErrnoException;
  const why = whyNoFile[code];
  if (why && path) return `${path}: ${why}.`;
  return error instanceof Error ? error.message : String(error);
}

/** Why a file cannot be read or written, by the system's own name for it. */
const whyNoFile: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file or folder",
  ENOTDIR: "what is on the way to it is no folder",
  EISDIR: "it is a folder",
  EACCES: "you may not read or write it",
  EPERM: "you may not do that to it",
  EROFS: "its file system can only be read",
  ENOSPC: "there is no room left for it",
};
