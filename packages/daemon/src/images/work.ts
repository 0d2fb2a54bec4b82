/** What long work is given to speak and to be stopped with; a step's context has it all. */
export interface Work {
  readonly signal: AbortSignal;
  log(line: string): void;
  /** `percent` null when unknown. */
  progress(percent: number | null, detail: string): void;
}
