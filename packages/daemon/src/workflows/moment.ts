import type { Instance, Snapshot } from "@berth/api";
import type { StepContext } from "../operations/workflow.ts";
import type { Transaction } from "../store/store.ts";

/** A moment of an instance, all its disks, that is kept in a folder of frozen files: for a snapshot, or for the children of a fork. */
export interface Moment {
  readonly instanceId: string;
  /** The instance as it is now. Rejects with `not_found`. */
  instance(): Promise<Instance>;
  readonly folder: string;
  /** Whose the folder is. */
  readonly owner: { readonly snapshotId: string } | { readonly forkOf: string };
  /** Tells the overlays that its disks go on as from those of any other time. */
  readonly tag: string;
  /** How much memory of the machine is kept with the disks, in MiB; null for none. */
  readonly memoryMib: number | null;
  /** Writes down what turned out. */
  record(tx: Transaction, facts: MomentFacts): Promise<void>;
}

/** What is found out about a moment while it is kept. */
export type MomentFacts = Partial<Pick<Snapshot, "disks" | "consistency" | "memoryBytes">>;

/** The moment that an operation keeps. */
export type FindMoment = (context: StepContext) => Promise<Moment>;
