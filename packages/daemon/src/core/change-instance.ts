import {
  BerthError,
  type ChangeEffect,
  ChangeInstance,
  type Instance,
  type InstancePhase,
  InstanceSpec,
  Labels,
  SnapshotSchedule,
} from "@berth/api";
import { z } from "zod";
import { InstanceRun } from "./instance-run.ts";
import { isSame } from "./is-same.ts";
import { keepsPorts, mayPublishLive } from "./published-ports.ts";
import { volumesDisk } from "./volumes.ts";

/** The parts of an instance in which a request can change something. */
export type Changeable = Pick<Instance, "name" | "labels" | "spec">;

/** All that a request can change, by the request's words. */
export const Wishes = InstanceRun.extend({
  labels: Labels,
  stopTimeoutMs: InstanceSpec.shape.stopTimeoutMs,
  restart: InstanceSpec.shape.restart,
  autosuspend: InstanceSpec.shape.autosuspend,
  snapshots: InstanceSpec.shape.snapshots,
});
export type Wishes = z.infer<typeof Wishes>;
type Field = keyof Wishes & keyof ChangeInstance;

/**
 * What each takes until it holds; `restart` is the next start, unless the machine runs and can be changed meanwhile (`liveFields`). The order is the one they are told in.
 */
const takes: Readonly<Record<Field, ChangeEffect["takes"]>> = {
  name: "restart",
  labels: "live",
  cpus: "restart",
  memoryMib: "restart",
  diskMib: "restart",
  ports: "restart",
  env: "restart",
  entrypoint: "restart",
  command: "restart",
  tty: "restart",
  stopTimeoutMs: "live",
  restart: "live",
  autosuspend: "live",
  snapshots: "live",
};
const fields = Object.keys(takes) as Field[];

/** What is wished for now. */
export function wishesOf({ name, labels, spec }: Changeable): Wishes {
  const { cpus, memoryMib, ports, env, entrypoint, command, tty, stopTimeoutMs, restart, autosuspend, snapshots } =
    spec;
  return {
    ...{ name, labels, cpus, memoryMib, diskMib: spec.disks[0]?.sizeMib, ports, env, entrypoint, command, tty },
    ...{ stopTimeoutMs, restart, autosuspend, snapshots },
  };
}

/** The wishes after a request. */
function after(before: Wishes, asked: ChangeInstance): Wishes {
  const { labels, env, snapshots, ...replaced } = asked;
  const given = Object.entries(replaced).filter(([, value]) => value !== undefined);
  return {
    ...before,
    ...Object.fromEntries(given),
    ...(labels ? { labels: merge(before.labels, labels) } : {}),
    ...(env ? { env: merge(before.env, env) } : {}),
    ...(snapshots === undefined ? {} : { snapshots: snapshots && mergeSchedule(before.snapshots, snapshots) }),
  };
}

/** What of a schedule is left out stays. Throws `invalid_request` when there is nothing that could stay. */
function mergeSchedule(
  before: Wishes["snapshots"],
  { everySeconds = before?.everySeconds, keep = before?.keep }: NonNullable<ChangeInstance["snapshots"]>,
): Wishes["snapshots"] {
  if (everySeconds === undefined)
    throw new BerthError("invalid_request", "It has no schedule of snapshots: say how often one is taken.");
  return SnapshotSchedule.parse({ everySeconds, keep });
}

/** A JSON merge patch of texts: null takes away. */
function merge(
  before: Readonly<Record<string, string>>,
  patch: Readonly<Record<string, string | null>>,
): Record<string, string> {
  const merged = new Map<string, string | null>([...Object.entries(before), ...Object.entries(patch)]);
  return Object.fromEntries([...merged].filter((entry): entry is [string, string] => entry[1] !== null));
}

/** The instance with these wishes. */
export function withWishes({ spec }: Changeable, { name, labels, diskMib, ...others }: Wishes): Changeable {
  const disks = spec.disks.map((disk, at) =>
    (at === 0 || disk.name === volumesDisk) && diskMib !== undefined ? { ...disk, sizeMib: diskMib } : disk,
  );
  return { name, labels, spec: { ...spec, ...others, disks } };
}

/** The fields in which wishes differ, each with what the change takes; those of `live` hold at once. */
export function effectsOf(before: Wishes, now: Wishes, live: ReadonlySet<Field> = new Set()): ChangeEffect[] {
  return fields
    .filter((field) => !isSame(before[field], now[field]))
    .map((field) => ({ field, takes: live.has(field) ? "live" : takes[field] }));
}

/** What a location can change of machines that run. */
export interface LiveAbilities {
  readonly publishes: boolean;
  readonly growsDisks: boolean;
}

/** Phases in which there is a machine that can be changed, or is about to be. */
const withMachine: readonly InstancePhase[] = ["provisioning", "starting", "running"];

/** The fields of a change that need no start in this phase, though others do. */
export function liveFields(
  phase: InstancePhase,
  { publishes, growsDisks }: LiveAbilities,
  before: Wishes,
  now: Wishes,
): ReadonlySet<Field> {
  if (!withMachine.includes(phase)) return new Set();
  const canPublish = publishes && mayPublishLive(before.ports, now.ports);
  return new Set([...(canPublish ? (["ports"] as const) : []), ...(growsDisks ? (["diskMib"] as const) : [])]);
}

/** The fields that the present run does not have as they are wished for. */
export function pendingFields(wished: Wishes, run: InstanceRun): Field[] {
  return fields.filter((field) => {
    if (field === "ports") return !keepsPorts(wished.ports, run.ports);
    if (field === "diskMib" && run.diskMib === undefined) return false;
    return field in run && !isSame(wished[field], run[field as keyof InstanceRun]);
  });
}

/** Changes whose operations have not ended, oldest first, and what was wished for before them. */
export const OpenChanges = z.object({
  base: Wishes,
  changes: z.array(z.object({ operationId: z.string(), asked: ChangeInstance })),
});
export type OpenChanges = z.infer<typeof OpenChanges>;

/** What the beginning or the end of a change makes of an instance. */
interface Changed {
  readonly wishes: Wishes;
  /** Null when no change is open. */
  readonly open: OpenChanges | null;
}

/** Adds one change; throws BerthError `invalid_request` when there are too many labels then, or a disk were to shrink. */
export function beginChange(
  now: Wishes,
  open: OpenChanges | null,
  change: { readonly operationId: string; readonly asked: ChangeInstance },
): Changed {
  const wishes = after(now, change.asked);
  checkLabels(wishes.labels);
  checkDisk(now.diskMib, wishes.diskMib);
  return { wishes, open: { base: open?.base ?? now, changes: [...(open?.changes ?? []), change] } };
}

function checkLabels(labels: Wishes["labels"]): void {
  const checked = Labels.safeParse(labels);
  if (checked.success) return;
  const message = checked.error.issues[0]?.message ?? "are not valid";
  throw new BerthError("invalid_request", `The labels: ${message}.`, { errors: [{ path: "body.labels", message }] });
}

function checkDisk(before = 0, now = before): void {
  if (now >= before) return;
  const message = `must be at least ${before}: a disk is never made smaller`;
  throw new BerthError("invalid_request", `diskMib ${message}.`, { errors: [{ path: "body.diskMib", message }] });
}

/** The open changes with the disk grown: that stays, whichever of them fail. */
export function keepGrown(open: OpenChanges, diskMib: number): OpenChanges {
  return { ...open, base: { ...open.base, diskMib } };
}

/** Ends one change: it is as if one that failed had never been asked for, whatever others, still open, have asked for since. */
export function endChange(now: Wishes, open: OpenChanges | null, operationId: string, failed: boolean): Changed {
  const ended = open?.changes.find((change) => change.operationId === operationId);
  if (!open || !ended) return { wishes: now, open };
  const changes = open.changes.filter((change) => change !== ended);
  const base = failed ? open.base : after(open.base, ended.asked);
  const wishes = changes.reduce((wished, { asked }) => after(wished, asked), base);
  return { wishes, open: changes.length > 0 ? { base, changes } : null };
}

/** The fields that an open change has asked for. */
export function fieldsAsked(open: OpenChanges | null, operationId: string): string[] {
  return Object.keys(open?.changes.find((change) => change.operationId === operationId)?.asked ?? {});
}
