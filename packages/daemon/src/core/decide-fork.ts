import { BerthError } from "@berth/api";
import { decideEnded, type ObservedInstance } from "./decide-instance.ts";
import type { SeenState } from "./instance-status.ts";

/** A child as it was seen once it had been waited for. */
export interface SeenChild extends SeenState, Pick<ObservedInstance, "publishes"> {
  readonly name: string;
}

/** Why a child is not as wished; undefined when it is. */
export function failureOfChild(seen: SeenChild): BerthError | undefined {
  if (seen.power === "stopped" || seen.exit !== null || seen.failure !== null) {
    const ended = decideEnded(seen);
    return "fail" in ended ? ended.fail : undefined;
  }
  if (!seen.guestVisible || seen.ready) return undefined;
  const reason = seen.notReadyReason || "the guest has said nothing";
  return new BerthError("not_ready_in_time", `Still not ready: ${reason}.`);
}

/** What a fork fails with when not all of its children are as wished: the first one's error, naming it; undefined when all are. */
export function failureOfFork(children: readonly SeenChild[]): BerthError | undefined {
  const failures = children.flatMap((child) => {
    const error = failureOfChild(child);
    return error ? [{ name: child.name, error }] : [];
  });
  const [first, ...others] = failures;
  if (!first) return undefined;
  const more = others.length > 0 ? ` So ${others.length === 1 ? "does one more" : `do ${others.length} more`}.` : "";
  return new BerthError(first.error.code, `${first.name}: ${first.error.message}${more}`);
}
