import { BerthError } from "@berth/api";

/** What is seen of a template that is being made: its image, its throw-away machine, and what has been saved of that. */
export interface ObservedTemplate {
  /** Whether the artifact of its image is there; who asked for the template has made it. */
  readonly artifact: boolean;
  readonly disks: boolean;
  /** Whether there is anything of the machine on the node's disk. */
  readonly folder: boolean;
  readonly made: boolean;
  readonly power: "running" | "paused" | "stopped";
  readonly powerReason: string;
  /** Whether its guest is as it is to be saved: it waits to be told who it is, or its process is ready. */
  readonly prepared: boolean;
  /** How its process ended before that, in words; null while it runs, or is not started. */
  readonly ended: string | null;
  /** Whether its memory is on disk, whole. */
  readonly saved: boolean;
}

/** The steps that making a template is told in. */
export type TemplateStepName =
  | "create-disks"
  | "create-machine"
  | "start-machine"
  | "await-prepared"
  | "save-memory"
  | "power-off"
  | "keep-disks"
  | "destroy-machine"
  | "delete-disks";

export type TemplateDecision =
  | { readonly run: TemplateStepName }
  | { readonly done: true }
  | { readonly fail: BerthError };

/**
 * What is next in making a template: a machine boots, is saved before anything of an instance is known to it, and is thrown away. `finished` are the steps that this
 * operation has run to their end.
 */
export function decideTemplate(seen: ObservedTemplate, finished: ReadonlySet<TemplateStepName>): TemplateDecision {
  if (!seen.saved) return decideSaving(seen, finished);
  if (seen.power !== "stopped" || !finished.has("power-off")) return { run: "power-off" };
  if (seen.disks && !finished.has("keep-disks")) return { run: "keep-disks" };
  if (seen.made) return { run: "destroy-machine" };
  if (seen.folder) return { run: "delete-disks" };
  return { done: true };
}

function decideSaving(seen: ObservedTemplate, finished: ReadonlySet<TemplateStepName>): TemplateDecision {
  if (seen.power === "stopped") {
    if (finished.has("start-machine")) {
      const reason = seen.ended || seen.powerReason || "it powered off without a word";
      return failed(`The machine is off again before its memory could be saved: ${reason}.`);
    }
    if (!seen.artifact) return failed("The image was deleted meanwhile.");
    if (!seen.disks) return { run: "create-disks" };
    if (!seen.made) return { run: "create-machine" };
    return { run: "start-machine" };
  }
  if (seen.power === "paused") return { run: "start-machine" };
  if (seen.ended !== null) return failed(seen.ended);
  if (seen.prepared) return { run: "save-memory" };
  if (finished.has("await-prepared")) return failed("Its guest did not get as far as it is to be saved.");
  return { run: "await-prepared" };
}

function failed(detail: string): TemplateDecision {
  return { fail: new BerthError("template_failed", detail) };
}
