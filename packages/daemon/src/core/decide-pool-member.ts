import { BerthError } from "@berth/api";

/** What is seen of a machine that is being made for a pool, and of the template it begins from. */
export interface ObservedPoolMember {
  readonly template:
    | { readonly state: "missing" | "building" | "ready" }
    | { readonly state: "failed"; readonly error: BerthError };
  readonly artifact: boolean;
  readonly disks: boolean;
  readonly made: boolean;
  readonly power: "running" | "paused" | "stopped";
  readonly powerReason: string;
  /** Whether its guest waits to be told who it is. */
  readonly prepared: boolean;
}

/** The steps that making a pool's machine is told in. */
export type PoolMemberStepName =
  | "request-template"
  | "create-disks"
  | "create-machine"
  | "start-machine"
  | "await-prepared"
  | "pause-machine";

export type PoolMemberDecision =
  | { readonly run: PoolMemberStepName }
  | { readonly wait: string }
  | { readonly done: true }
  | { readonly fail: BerthError };

/**
 * What is next in making a machine for a pool: it is cloned from the template of its shape, runs until its guest has answered, so that whoever claims it need not wait for
 * what only happens once, and stands still.
 */
export function decidePoolMember(
  seen: ObservedPoolMember,
  finished: ReadonlySet<PoolMemberStepName>,
): PoolMemberDecision {
  if (seen.power === "paused" && finished.has("pause-machine")) return { done: true };
  // A killed berthd may have left it so at any moment.
  if (seen.power === "paused") return { run: "start-machine" };
  if (seen.power === "running") {
    if (seen.prepared) return { run: "pause-machine" };
    if (finished.has("await-prepared")) return failed("its guest did not answer");
    return { run: "await-prepared" };
  }
  if (finished.has("start-machine")) return failed(seen.powerReason || "it went off without a word");
  return decideTemplate(seen.template, finished) ?? decidePreparation(seen);
}

function decidePreparation(seen: ObservedPoolMember): PoolMemberDecision {
  if (!seen.artifact) return failed("its image was deleted meanwhile");
  if (!seen.disks) return { run: "create-disks" };
  return { run: seen.made ? "start-machine" : "create-machine" };
}

function decideTemplate(
  template: ObservedPoolMember["template"],
  finished: ReadonlySet<PoolMemberStepName>,
): PoolMemberDecision | undefined {
  if (template.state === "ready") return undefined;
  if (template.state === "building") return { wait: "waiting for its template" };
  if (!finished.has("request-template")) return { run: "request-template" };
  return template.state === "failed" ? { fail: template.error } : failed("its template was deleted meanwhile");
}

function failed(why: string): PoolMemberDecision {
  return { fail: new BerthError("template_failed", `The machine could not be made: ${why}.`) };
}
