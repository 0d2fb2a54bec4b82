import type { Template } from "@berth/api";

const minuteMs = 60_000;
const dayMs = 24 * 60 * minuteMs;

/** How long a shape whose template failed is left alone: five minutes, twice as long after each further failure, at most a day. */
export function retryAfterMs(failures: number): number {
  return Math.min(5 * minuteMs * 2 ** Math.max(0, failures - 1), dayMs);
}

/** What is known before a template is made that nobody waits for. All amounts in MiB, times in milliseconds since the epoch. */
export interface MakingSituation {
  /** How often the template of this shape has failed in a row, and when it did last; null when there is none. */
  readonly before: { readonly state: Template["state"]; readonly failures: number; readonly updatedAt: number } | null;
  readonly now: number;
  readonly memoryMib: number;
  readonly memoryAvailableMib: number;
  readonly diskFreeMib: number;
}

/** Kept free on the node whatever is made in the background, in MiB. */
const reserve = { memoryMib: 512, diskMib: 1024 } as const;

/** Why no template is to be made now that nobody waits for; undefined when one is. */
export function reasonNotToMake(situation: MakingSituation): string | undefined {
  const { before, now, memoryMib, memoryAvailableMib, diskFreeMib } = situation;
  if (before && before.state !== "failed") return `there is one that is ${before.state}`;
  if (before && now < before.updatedAt + retryAfterMs(before.failures)) return "it failed not long ago";
  // The machine that boots, and what is kept of it for its clones.
  if (memoryAvailableMib < 2 * memoryMib + reserve.memoryMib) return "the node is short of memory";
  if (diskFreeMib < memoryMib + reserve.diskMib) return "the node is short of disk space";
  return undefined;
}

/** A template, and whether anything can still be cloned from it. */
export interface KeptTemplate {
  readonly template: Template;
  /** Whether an image of its project has its content. */
  readonly imageThere: boolean;
  /** Whether this node's driver would name its build the same today; true where that cannot be told. */
  readonly fits: boolean;
}

/** What is kept: those used within so long, as many as fit into so much. Not given: no bound. */
export interface UpkeepBounds {
  readonly unusedForMs?: number | undefined;
  readonly keepMib?: number | undefined;
}

/** What berthd does by itself. A failed one is kept as long as its shape is left alone, and to be looked at. */
export const ownBounds: UpkeepBounds & { readonly failedForMs: number } = {
  unusedForMs: 7 * dayMs,
  keepMib: 16 * 1024,
  failedForMs: dayMs,
};

/** Which templates are to go, each with the reason; those being made are left alone. */
export function templatesToPrune(
  kept: readonly KeptTemplate[],
  { unusedForMs, keepMib, failedForMs }: UpkeepBounds & { readonly failedForMs: number },
  now: number,
): readonly { readonly template: Template; readonly reason: string }[] {
  const unusedSince = ({ lastUsedAt, createdAt }: Template) => Date.parse(lastUsedAt ?? createdAt);
  const reasonOf = ({ template, imageThere, fits }: KeptTemplate): string | undefined => {
    const idleMs = now - unusedSince(template);
    if (template.state === "failed") return idleMs >= failedForMs ? "it could not be made" : undefined;
    if (!imageThere) return "its image is gone";
    if (!fits) return "the hypervisor or the guest kit is another by now";
    if (unusedForMs !== undefined && idleMs >= unusedForMs) return "it was not used for long enough";
    return undefined;
  };
  const settled = kept.filter(({ template }) => template.state !== "building");
  const useless = settled.flatMap((one) => {
    const reason = reasonOf(one);
    return reason === undefined ? [] : [{ template: one.template, reason }];
  });
  if (keepMib === undefined) return useless;
  const left = settled.filter((one) => reasonOf(one) === undefined).map(({ template }) => template);
  const newestFirst = left.toSorted((a, b) => unusedSince(b) - unusedSince(a));
  let bytes = 0;
  const tooMany = newestFirst.filter((template) => {
    bytes += template.sizeBytes ?? 0;
    return bytes > keepMib * 2 ** 20;
  });
  return [...useless, ...tooMany.map((template) => ({ template, reason: "templates take more space than is kept" }))];
}
