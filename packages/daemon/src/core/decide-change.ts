/** What is seen of an instance whose wishes have changed. */
export interface ObservedChange {
  /** Whether the ports wished for have their host ports. */
  readonly portsReserved: boolean;
  /** What the running machine publishes is not what it has reserved, and can be changed. */
  readonly portsToPublish: boolean;
  /** The running machine's root disk is smaller than is wished for, and can grow. */
  readonly diskToGrow: boolean;
}

/** The steps a change is told in. */
export type ChangeStepName = "reserve-ports" | "publish-ports" | "grow-disk";

export type ChangeDecision = { readonly run: ChangeStepName } | { readonly done: true };

/**
 * What of a change is to be done next, while the instance runs or rests; all else waits for its next start, and so does what this operation has tried in vain. A disk grows
 * last: it cannot be taken back.
 */
export function decideChange(seen: ObservedChange, finished: ReadonlySet<string>): ChangeDecision {
  if (!seen.portsReserved) return { run: "reserve-ports" };
  if (seen.portsToPublish && !finished.has("publish-ports")) return { run: "publish-ports" };
  if (seen.diskToGrow && !finished.has("grow-disk")) return { run: "grow-disk" };
  return { done: true };
}
