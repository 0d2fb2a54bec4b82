import type { InstancePhase, InstanceSpec, InstanceStatus } from "@berth/api";
import type { ObservedInstance } from "./decide-instance.ts";

const shown = [
  "power",
  "powerReason",
  "exit",
  "failure",
  "ready",
  "notReadyReason",
  "heard",
  "guestVisible",
  "startedAt",
  "memoryBytes",
] as const;

/** The part of an observation that shows in the status. */
export type SeenState = Pick<ObservedInstance, (typeof shown)[number]>;

/** Only that part, to be kept as an operation's result. */
export function seenState(observed: SeenState): SeenState {
  return Object.fromEntries(shown.map((field) => [field, observed[field]])) as unknown as SeenState;
}

/**
 * The status of an instance no operation is working on, from what is seen of it and the power wished for. A failure stays until the instance runs again:
 * that it is off now says less than why.
 */
export function observedStatus(
  previous: InstanceStatus,
  seen: SeenState,
  wished: InstanceSpec["power"],
  now: string,
): InstanceStatus {
  const exitCode = seen.exit?.code ?? null;
  if (seen.power === "stopped" && seen.memoryBytes !== null) {
    const { memoryBytes } = seen;
    // Why it could not go on says more than that it rests.
    const reason = previous.phase === "suspended" ? previous.reason : "";
    return { ...previous, phase: "suspended", ready: false, health: "unknown", reason, observedAt: now, memoryBytes };
  }
  if (seen.power === "stopped") {
    const failed = previous.phase === "failed";
    return {
      ...previous,
      phase: failed ? "failed" : "stopped",
      ready: false,
      health: "unknown",
      reason: failed ? previous.reason : wished === "stopped" ? "" : endReason(seen),
      observedAt: now,
      exitCode: exitCode ?? previous.exitCode,
      memoryBytes: null,
    };
  }
  if (seen.exit !== null || seen.failure !== null) {
    // The guest has said how it ended and is powering off.
    const phase = previous.phase === "failed" ? "failed" : "stopping";
    return { ...previous, phase, ready: false, health: "unknown", observedAt: now, exitCode };
  }
  // A daemon that was just started has not heard of its guests yet: they are as they were.
  const ready = seen.guestVisible ? (seen.heard ? seen.ready : previous.ready) : true;
  return {
    ...previous,
    phase: seen.power === "paused" ? "unknown" : "running",
    ready,
    health: ready ? "healthy" : "unknown",
    reason: runReason(seen, ready),
    observedAt: now,
    exitCode,
    startedAt: seen.startedAt,
    memoryBytes: null,
  };
}

function endReason(seen: SeenState): string {
  if (seen.failure !== null) return seen.failure;
  if (seen.exit !== null) return seen.exit.code === 0 ? "" : `its process ended with exit code ${seen.exit.code}`;
  return seen.powerReason || "the machine went off without a word from its guest";
}

function runReason(seen: SeenState, ready: boolean): string {
  if (seen.power === "paused") return "the machine is paused, and not by Berth";
  return ready ? "" : seen.notReadyReason;
}

/** Whether two statuses differ in anything but the time they were observed. */
export function statusChanged(before: InstanceStatus, after: InstanceStatus): boolean {
  const fields = (status: InstanceStatus) => JSON.stringify({ ...status, observedAt: "" });
  return fields(before) !== fields(after);
}

/** The event that tells of a change of phase or readiness; undefined when it is not worth one. */
export function changeEvent(before: InstanceStatus, after: InstanceStatus): string | undefined {
  const byPhase: Partial<Record<InstancePhase, string>> = {
    running: "instance.started",
    stopped: "instance.stopped",
    suspended: "instance.suspended",
    failed: "instance.failed",
    unknown: "instance.lost",
  };
  if (after.ready && !before.ready) return "instance.ready";
  if (after.phase !== before.phase) return byPhase[after.phase];
  if (before.ready && !after.ready) return "instance.unready";
  return undefined;
}
