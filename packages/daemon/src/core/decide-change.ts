/** What is seen of an instance whose wishes have changed. */
export interface ObservedChange {
  /** Whether the ports wished for have their host ports. */
  readonly portsReserved: boolean;
}

/** The steps a change is told in. */
export type ChangeStepName = "reserve-ports";

export type ChangeDecision = { readonly run: ChangeStepName } | { readonly done: true };

/** What of a change is to be done next, while the instance runs or rests; all else waits for its next start. */
export function decideChange(seen: ObservedChange): ChangeDecision {
  if (!seen.portsReserved) return { run: "reserve-ports" };
  return { done: true };
}
