import type { ChangeQuota, Quota } from "@berth/api";

/** Limits after a change: what it leaves out stays. */
export function changedLimits(limits: Quota, changes: ChangeQuota): Quota {
  const named = Object.entries(changes).filter(([, limit]) => limit !== undefined);
  return { ...limits, ...(Object.fromEntries(named) as Partial<Quota>) };
}
