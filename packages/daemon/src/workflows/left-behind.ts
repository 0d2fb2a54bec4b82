import type { Outcome } from "../operations/workflow.ts";

/**
 * Why something is still there that was to be taken back, for the row that stands for it: what nobody knows of is never removed. Undefined when nothing is, and when
 * nothing was to be taken back. `steps` are those whose undo counts; all when not given.
 */
export function leftBehind(outcome: Outcome, steps?: readonly string[]): string | undefined {
  if (outcome.status === "succeeded") return undefined;
  const left = outcome.leftBehind.filter((step) => steps?.includes(step) ?? true);
  if (left.length === 0) return undefined;
  return `${outcome.error.message} What was made could not all be taken back (${left.join(", ")}): deleting it tries again.`;
}
