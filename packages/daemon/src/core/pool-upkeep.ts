import { retryAfterMs } from "./template-upkeep.ts";

/** A pool, its machines, and what the node has to spare. Amounts in MiB, times in milliseconds since the epoch. */
export interface PoolSituation {
  readonly size: number;
  readonly members: readonly {
    readonly id: string;
    readonly state: "making" | "ready" | "leaving";
    /** Whether an instance of the pool's image, CPUs and memory could go on from it today. */
    readonly fits: boolean;
    /** Whether its machine stands still, as it should. */
    readonly waits: boolean;
  }[];
  readonly failures: number;
  readonly failedAt: number | null;
  readonly now: number;
  readonly memoryMib: number;
  readonly memoryAvailableMib: number;
}

export interface PoolPlan {
  /** How many machines to begin to make. */
  readonly make: number;
  /** The waiting machines that are to go. */
  readonly drop: readonly string[];
  /** Why it is not being filled although it is not full; empty otherwise. */
  readonly reason: string;
}

/** Made at once for one pool: the node's processors have other work too. */
const atOnce = 2;
/** Kept free on the node whatever a pool takes, in MiB. */
const reserveMib = 512;

/** What a pool lacks and what it has too much of. Too many: those that have waited for longest go. */
export function planPool(situation: PoolSituation): PoolPlan {
  const { size, members, failures, failedAt, now, memoryMib, memoryAvailableMib } = situation;
  const ready = members.filter(({ state }) => state === "ready");
  const good = ready.filter(({ fits, waits }) => fits && waits);
  const making = members.filter(({ state }) => state === "making").length;
  const useless = ready.filter((member) => !good.includes(member));
  const surplus = good.slice(0, Math.max(0, good.length + making - size));
  const drop = [...useless, ...surplus].map(({ id }) => id);
  const missing = size - good.length - making;
  if (missing <= 0) return { make: 0, drop, reason: "" };
  if (failedAt !== null && failures > 0 && now < failedAt + retryAfterMs(failures)) {
    return { make: 0, drop, reason: "the last machine for it could not be made; it is tried again later" };
  }
  const affordable = Math.floor((memoryAvailableMib - reserveMib) / memoryMib) - making;
  if (affordable <= 0) return { make: 0, drop, reason: "the node is short of memory" };
  return { make: Math.max(0, Math.min(missing, atOnce - making, affordable)), drop, reason: "" };
}
