import { BerthError, type InstanceSpec, type Template, type WarmPolicy } from "@berth/api";

/** What there is to choose from when a machine is to be powered on. */
export interface StartSituation {
  readonly policy: WarmPolicy;
  /** Whether the location's driver can go on from saved memory. */
  readonly able: boolean;
  /** Whether its disks are as they were when the template's memory was saved: that fits no others. Of an instance without a template, whether nothing was written to them yet. */
  readonly untouched: boolean;
  /** Whether it has never run. */
  readonly first: boolean;
  /** The template of its shape; undefined when there is none. */
  readonly template: Pick<Template, "id" | "state" | "reason"> | undefined;
}

/** Whether a new instance may take a machine from a pool: one that is to run, and that a pool's machine can still become. */
export function mayClaim({ warm, power, ports }: InstanceSpec, canPublish: boolean): boolean {
  return (warm === "auto" || warm === "require") && power === "running" && (ports.length === 0 || canPublish);
}

export type StartChoice =
  | { readonly from: string; readonly reason: string }
  | { readonly from: "boot"; readonly reason: string }
  | { readonly refuse: BerthError };

/** Whether a machine boots or goes on from a template's memory, named by its id, and why. */
export function chooseStart({ policy, able, untouched, first, template }: StartSituation): StartChoice {
  // What is captured with its process has a disk that process has written to: only another look at the template can tell it from one written to since.
  if (!untouched && !(policy === "app" && first))
    return boot("its disk has been written to: only a first start can go on from a template");
  if (policy === "never") return boot("a cold start was asked for");
  const lack = !able
    ? "its driver keeps no templates"
    : (lackOf(template) ?? (untouched ? undefined : "the template was made anew since its disk was copied"));
  if (lack === undefined && template) return { from: template.id, reason: `cloned from the template ${template.id}` };
  if (policy === "require" || policy === "app")
    return { refuse: new BerthError("template_failed", `It can only boot: ${lack}.`) };
  return boot(lack ?? "");
}

function boot(reason: string): StartChoice {
  return { from: "boot", reason };
}

function lackOf(template: StartSituation["template"]): string | undefined {
  if (!template) return "there was no template of this shape yet";
  if (template.state === "building") return `the template of this shape (${template.id}) is still being made`;
  if (template.state === "failed") return `the template of this shape could not be made: ${template.reason}`;
  return undefined;
}
