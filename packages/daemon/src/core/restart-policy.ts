import type { InstanceSpec, InstanceStatus } from "@berth/api";

/** What is known of an instance that is off, when it is asked whether it is to be started again. */
export interface EndedRun {
  readonly policy: InstanceSpec["restart"];
  readonly wished: InstanceSpec["power"];
  readonly restarts: InstanceStatus["restarts"];
  /** How its process ended; null when nobody knows. */
  readonly exitCode: number | null;
  /** When its last run began, milliseconds since the epoch; null when it never ran. */
  readonly startedAt: number | null;
  /** Since when the node has been up, as far as Berth knows. */
  readonly nodeUpSince: number;
}

export type RestartDecision =
  | { readonly leave: true }
  /** Start it at that time; `delayMs` is how long that is after its end. */
  | { readonly startAt: number; readonly delayMs: number };

/** The first pause before it is started again, the longest, and how long a run must last for the next pause to be the first again; in milliseconds. */
const firstDelayMs = 1_000;
const longestDelayMs = 60_000;
const longRunMs = 10_000;

const leave: RestartDecision = { leave: true };

/** Whether and when an instance that is off is started again by its restart policy, by docker's rules. What was asked to be off stays off. */
export function decideRestart(run: EndedRun, now: number): RestartDecision {
  const { restarts } = run;
  if (run.wished !== "running" || !wants(run)) return leave;
  // Decided before: neither a new look nor a new daemon makes it later.
  if (restarts.nextAt !== null) return { startAt: Date.parse(restarts.nextAt), delayMs: restarts.delayMs };
  if (endedByNode(run)) return { startAt: now, delayMs: 0 };
  const ranLong = run.startedAt !== null && now - run.startedAt >= longRunMs;
  const delayMs = ranLong || restarts.delayMs === 0 ? firstDelayMs : Math.min(longestDelayMs, restarts.delayMs * 2);
  return { startAt: now + delayMs, delayMs };
}

function wants(run: EndedRun): boolean {
  const { policy, restarts } = run;
  if (policy === "no") return false;
  if (policy === "always" || policy === "unless-stopped") return true;
  const [, most] = policy.split(":");
  if (most !== undefined && restarts.count >= Number(most)) return false;
  return run.exitCode !== 0 && !endedByNode(run);
}

/** No run outlives its node. One whose exit code is known had ended before. */
function endedByNode({ exitCode, startedAt, nodeUpSince }: EndedRun): boolean {
  return exitCode === null && startedAt !== null && startedAt < nodeUpSince;
}

/** Whether the node's restart starts an instance that somebody had stopped: only with `always`, as docker has it. */
export function returnsWithNode({ restart, power }: Pick<InstanceSpec, "restart" | "power">): boolean {
  return restart === "always" && power === "stopped";
}

/** How often and how an instance was restarted: nothing yet, since somebody changed its power or its policy by hand. */
export const noRestarts: InstanceStatus["restarts"] = { count: 0, delayMs: 0, nextAt: null };
