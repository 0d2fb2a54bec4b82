import type { InstanceSpec, InstanceStatus } from "@berth/api";

/** What was seen of a running instance that sleeps when nobody needs it. */
export interface Need {
  /** Whether its program serves: one that does not yet is not to be put to sleep. */
  readonly ready: boolean;
  /** Connections to its published ports that are open. */
  readonly connections: number;
  /** Exec, console, copies, and logs that are followed. */
  readonly sessions: number;
  /** Counts up whenever something came to a published port or a session began: also what was over before anybody looked. */
  readonly activity: number;
}

/** What is kept of an instance from look to look. Times are milliseconds on one clock. */
export interface Idleness {
  readonly activity: number;
  /** Since when nobody has needed it. */
  readonly quietSince: number;
}

/** Goes on watching with one more look; pure. */
export function watchIdleness(before: Idleness | undefined, need: Need, now: number): Idleness {
  const needed = !need.ready || need.connections > 0 || need.sessions > 0 || need.activity !== before?.activity;
  return { activity: need.activity, quietSince: needed ? now : (before?.quietSince ?? now) };
}

/** Whether nobody has needed it for long enough; pure. */
export function isIdle(
  idleness: Idleness,
  autosuspend: NonNullable<InstanceSpec["autosuspend"]>,
  now: number,
): boolean {
  return now - idleness.quietSince >= autosuspend.idleSeconds * 1000;
}

/** How long a look may be away from the next so that an instance sleeps soon after its time, in milliseconds; pure. */
export function lookIntervalMs(autosuspends: readonly NonNullable<InstanceSpec["autosuspend"]>[]): number {
  const shortest = Math.min(...autosuspends.map(({ idleSeconds }) => idleSeconds));
  return Math.min(Math.max(shortest * 250, 250), 2_000);
}

/** How many connections a sleeper has waiting, and what became of the last attempt to wake it. */
export interface Knocking {
  readonly waiting: number;
  /** Whether it was woken and still sleeps. */
  readonly tried: boolean;
  /** When it may be woken again after that failed. */
  readonly retryAt: number;
}

/**
 * What is to be done with a sleeper's ports and those who wait there: `wake` it, `turn-away` those who wait since it cannot be woken, or nothing; pure. One that is not to
 * sleep by itself is not woken either.
 */
export function decideKnocking(
  phase: InstanceStatus["phase"],
  { waiting, tried, retryAt }: Knocking,
  now: number,
): "wake" | "turn-away" | "nothing" {
  if (phase !== "suspended" || waiting === 0) return "nothing";
  return tried || now < retryAt ? "turn-away" : "wake";
}
