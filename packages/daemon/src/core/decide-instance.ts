import { BerthError } from "@berth/api";

/** What one operation wants of its instance. */
export interface InstanceWish {
  readonly present: boolean;
  readonly power: "running" | "stopped" | "suspended";
  /** Whether it is being made: only then are missing disks made, since any other time they held something. */
  readonly isNew: boolean;
  /** A running guest started for an older generation is restarted. */
  readonly restartGeneration: number;
  /** Cut the power without asking the guest first; of a suspended one, lose its memory. */
  readonly force: boolean;
  /** What is to take the place of its disks, once, while it is off: a snapshot's, or a new root disk of an image. Null for nothing. */
  readonly replaceDisks: "restore" | "rebuild" | null;
  /** What is still to be done, once, when all else is as wished. */
  readonly after: readonly InstanceStepName[];
  /** Boot a suspended one from its disks, and lose its memory. */
  readonly cold: boolean;
}

/** What is seen of an instance, gathered from image, disks, driver and guest. */
export interface ObservedInstance {
  /** `gone` when the image was deleted; a `failed` image has its error. */
  readonly image:
    | { readonly state: "building" | "ready" | "gone" }
    | { readonly state: "failed"; readonly error: BerthError };
  /**
   * The template that it must begin from: `unneeded` when it may as well boot; a `failed` one has its error.
   */
  readonly template:
    | { readonly state: "unneeded" | "missing" | "building" | "ready" }
    | { readonly state: "failed"; readonly error: BerthError };
  /** Whether the bootable artifact is on this node; it is always rebuildable. */
  readonly artifact: boolean;
  /** Whether its machine stood in a pool when it was asked for: that is taken over before anything else. */
  readonly claimed: boolean;
  /** Whether it is known which disks it is to have: an image that was not here when it was asked for may have volumes. */
  readonly disksPlanned: boolean;
  /** Whether all its disks are there. */
  readonly disks: boolean;
  /** Whether there is anything of it on the node's disk. */
  readonly folder: boolean;
  /** Whether the ports wished for have their host ports. */
  readonly portsReserved: boolean;
  /** Whether the driver has it. */
  readonly made: boolean;
  readonly power: "running" | "paused" | "stopped";
  /** The driver's words when something is off. */
  readonly powerReason: string;
  /**
   * The disk space of its own memory image, in bytes; null when none is whole. A machine that is off goes on from that. One that runs never has it: its disks have moved on since.
   */
  readonly memoryBytes: number | null;
  /** Whether berthd takes the connections to its published ports, since it sleeps, falls asleep or wakes. */
  readonly portsHeld: boolean;
  /** When the present run began, RFC 3339; null when it does not run. */
  readonly startedAt: string | null;
  /** The restart generation that the present run was started for; null when it never ran. */
  readonly runGeneration: number | null;
  /** How the guest's process ended in this run; null while it runs or before. */
  readonly exit: { readonly code: number } | null;
  /** Why the guest could not start its process, in its words; null when it could. */
  readonly failure: string | null;
  /** The image's process runs and listens on what is published. */
  readonly ready: boolean;
  /** Why it is not ready, as the guest sees it. */
  readonly notReadyReason: string;
  /** Whether the guest has said anything since it is listened to; until then what was last known of it holds. */
  readonly heard: boolean;
  /** Whether the location has a channel to the guest; without one `running` is all that can be known. */
  readonly guestVisible: boolean;
  /** Whether somebody outside waits on a published port. */
  readonly publishes: boolean;
}

/** The steps an instance's operations are told in. */
export type InstanceStepName =
  | "take-over"
  | "realise-image"
  | "plan-disks"
  | "create-disks"
  | "reserve-ports"
  | "create-machine"
  | "request-template"
  | "start-machine"
  | "await-ready"
  | "stop-guest"
  | "power-off"
  | "suspend-machine"
  | "drop-memory"
  | "give-back-ports"
  | "destroy-machine"
  | "delete-disks"
  | "prepare-restore"
  | "prepare-rebuild"
  | "replace-disks"
  | "forget-snapshots"
  | "collect-layers";

export type InstanceDecision =
  | { readonly run: InstanceStepName }
  | { readonly wait: string; readonly for: "image" | "template" }
  | { readonly done: true }
  | { readonly fail: BerthError; readonly keep?: true };

/**
 * The one loop of create, start, stop, suspend, restart, delete, and of recovery after a crash: given a wish and what is seen, what is next.
 * `finished` are the steps this operation has already run to their end; they only matter where looking again cannot tell whether
 * something was tried (the guest was asked to stop, the machine was started and is off again).
 */
export function decideInstance(
  wish: InstanceWish,
  seen: ObservedInstance,
  finished: ReadonlySet<InstanceStepName>,
): InstanceDecision {
  const decision = decideState(wish, seen, finished);
  const ends = "done" in decision || "fail" in decision;
  // Only who sleeps is stood in for.
  if (ends && seen.portsHeld && !isSuspended(seen)) return { run: "give-back-ports" };
  const last = "done" in decision ? wish.after.find((step) => !finished.has(step)) : undefined;
  return last ? { run: last } : decision;
}

function isSuspended({ power, memoryBytes }: ObservedInstance): boolean {
  return power === "stopped" && memoryBytes !== null;
}

function decideState(
  wish: InstanceWish,
  seen: ObservedInstance,
  finished: ReadonlySet<InstanceStepName>,
): InstanceDecision {
  if (!wish.present) return decideAbsent(wish, seen);
  if (wish.isNew && seen.claimed && !finished.has("take-over")) return { run: "take-over" };
  if (wish.replaceDisks && !finished.has("replace-disks")) return decideReplacement(wish, seen, finished);
  if (wish.power === "suspended") return decideSuspended(seen, finished);
  if (seen.power === "running" && seen.memoryBytes !== null) return { run: "drop-memory" };
  if (wish.power === "running") return decideRunning(wish, seen, finished);
  if (seen.power !== "stopped") return decidePowerOff(wish, seen, finished);
  if (isSuspended(seen)) return wish.force ? { run: "drop-memory" } : refuseLoss("A stop");
  return (wish.isNew ? decidePreparation(wish, seen, finished) : undefined) ?? { done: true };
}

/**
 * First all is made ready beside the disks, so that what cannot be done is known before the machine is stopped; once it is off all change places. Its memory goes before them: it
 * fits no others.
 */
function decideReplacement(
  wish: InstanceWish,
  seen: ObservedInstance,
  finished: ReadonlySet<InstanceStepName>,
): InstanceDecision {
  if (wish.replaceDisks === "restore" && !finished.has("prepare-restore")) return { run: "prepare-restore" };
  if (wish.replaceDisks === "rebuild" && !finished.has("prepare-rebuild")) {
    return decideImage(seen) ?? { run: seen.artifact ? "prepare-rebuild" : "realise-image" };
  }
  if (seen.power !== "stopped") return decidePowerOff(wish, seen, finished);
  return { run: seen.memoryBytes === null ? "replace-disks" : "drop-memory" };
}

/** One that was on after its memory was saved had something to do again: it stays awake. */
function decideSuspended(seen: ObservedInstance, finished: ReadonlySet<InstanceStepName>): InstanceDecision {
  if (seen.power === "stopped") {
    if (seen.memoryBytes !== null) return { done: true };
    return { fail: new BerthError("instance_not_running", "It is off, and has no memory to keep."), keep: true };
  }
  if (seen.exit !== null || seen.failure !== null) return decideEnded(seen);
  return finished.has("suspend-machine") ? { done: true } : { run: "suspend-machine" };
}

function refuseLoss(what: string): InstanceDecision {
  return { fail: new BerthError("instance_suspended", `${what} would lose what is in its memory.`), keep: true };
}

/** What runs is deleted by force only: it may have been started since the delete was asked for. One whose process has ended is merely going off. */
function decideAbsent(wish: InstanceWish, seen: ObservedInstance): InstanceDecision {
  if (seen.power !== "stopped") {
    if (wish.force || seen.exit !== null || seen.failure !== null) return { run: "power-off" };
    return { fail: new BerthError("instance_running", "It runs by now."), keep: true };
  }
  if (seen.made) return { run: "destroy-machine" };
  if (seen.folder) return { run: "delete-disks" };
  return { done: true };
}

/** The guest is asked once, with the deadline of its instance; then the power is cut. */
function decidePowerOff(
  wish: InstanceWish,
  seen: ObservedInstance,
  finished: ReadonlySet<InstanceStepName>,
): InstanceDecision {
  const askFirst = !wish.force && seen.guestVisible && seen.power === "running" && !finished.has("stop-guest");
  return { run: askFirst ? "stop-guest" : "power-off" };
}

function decideRunning(
  wish: InstanceWish,
  seen: ObservedInstance,
  finished: ReadonlySet<InstanceStepName>,
): InstanceDecision {
  const outdated = seen.runGeneration !== null && seen.runGeneration < wish.restartGeneration;
  if (isSuspended(seen)) {
    if (wish.cold) return { run: "drop-memory" };
    if (outdated) return refuseLoss("A restart");
    return decidePreparation(wish, seen, finished) ?? { run: "start-machine" };
  }
  if (seen.power === "stopped") {
    if (finished.has("start-machine")) return decideEnded(seen);
    return decidePreparation(wish, seen, finished) ?? decideTemplate(seen, finished) ?? { run: "start-machine" };
  }
  if (outdated) return decidePowerOff(wish, seen, finished);
  if (seen.power === "paused") return decidePreparation(wish, seen, finished) ?? { run: "start-machine" };
  // The guest has said how it ended and is powering off.
  if (seen.exit !== null || seen.failure !== null) return decideEnded(seen);
  if (!seen.guestVisible || seen.ready) return { done: true };
  if (!finished.has("await-ready")) return { run: "await-ready" };
  const reason = seen.notReadyReason || "the guest has said nothing";
  return { fail: new BerthError("not_ready_in_time", `Still not ready: ${reason}.`), keep: true };
}

/** What must be there before the power goes on; undefined when all of it is. */
function decidePreparation(
  wish: InstanceWish,
  seen: ObservedInstance,
  finished: ReadonlySet<InstanceStepName>,
): InstanceDecision | undefined {
  if (!seen.disks) {
    if (!wish.isNew)
      return { fail: new BerthError("disk_missing", "A disk of it is gone from the node's data folder.") };
    const image = decideImage(seen);
    if (image) return image;
  }
  if (!seen.artifact) return { run: "realise-image" };
  if (wish.isNew && !seen.disksPlanned) return { run: "plan-disks" };
  // What a template has of a disk is copied to the new one.
  if (!seen.disks) return decideTemplate(seen, finished) ?? { run: "create-disks" };
  // Later it is for a change to reserve others: a start takes those that are reserved.
  if (wish.isNew && !seen.portsReserved) return { run: "reserve-ports" };
  if (!seen.made) return { run: "create-machine" };
  return undefined;
}

/** What there is to say of an image that is not ready; undefined when it is. */
function decideImage({ image }: ObservedInstance): InstanceDecision | undefined {
  if (image.state === "building") return { wait: "waiting for its image", for: "image" };
  if (image.state === "failed") return { fail: image.error };
  if (image.state === "gone") return { fail: new BerthError("not_found", "Its image is gone.") };
  return undefined;
}

/** What must be so before a machine can begin from a template that it may not do without; undefined when all of it is. */
function decideTemplate(
  { template }: ObservedInstance,
  finished: ReadonlySet<InstanceStepName>,
): InstanceDecision | undefined {
  if (template.state === "building") return { wait: "waiting for its template", for: "template" };
  if (template.state !== "missing" && template.state !== "failed") return undefined;
  // One that failed for somebody else is tried again.
  if (!finished.has("request-template")) return { run: "request-template" };
  if (template.state === "failed") return { fail: template.error };
  return { fail: new BerthError("template_failed", "Its template was deleted while it waited for it.") };
}

/** The machine was started by this operation and is off again: a program that ran to its end well, or a failure to look at. */
export function decideEnded(
  seen: Pick<ObservedInstance, "failure" | "exit" | "publishes" | "powerReason">,
): InstanceDecision {
  if (seen.failure !== null) return { fail: new BerthError("start_failed", seen.failure), keep: true };
  if (seen.exit?.code === 0 && !seen.publishes) return { done: true };
  if (seen.exit !== null) {
    const detail = `Its process ended with exit code ${seen.exit.code} before it was ready.`;
    return { fail: new BerthError("exited_early", detail), keep: true };
  }
  const reason = seen.powerReason || "the guest powered off without a word";
  return { fail: new BerthError("exited_early", `The machine is off again: ${reason}.`), keep: true };
}
