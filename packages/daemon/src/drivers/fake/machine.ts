import type { DiskDescription, PortForward } from "../../core/descriptions.ts";
import type { OwnerMark } from "../driver.ts";
import { isOn, type Knobs, knobsOfEnvironment, numberOf } from "./knobs.ts";

/** What the guest was told to be, by `configure` on its control port. */
export interface GuestConfig {
  readonly at: number;
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly watchPorts: readonly number[];
  readonly hostKey: string;
  readonly clientPublicKey: string;
}

/** All that is remembered of one fake machine. What it is doing follows from this and the time, so it lives on without anybody. */
export interface MachineRecord {
  readonly version: 1;
  readonly id: string;
  readonly owner: OwnerMark;
  readonly name: string;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly disks: readonly DiskDescription[];
  readonly interfaces: number;
  readonly kitBuildId: string | null;
  /** What it publishes from its next start on. */
  readonly forwards: readonly PortForward[];
  readonly knobs: Knobs;
  /** Its present or last run; null before the first. */
  readonly run: Run | null;
}

export interface Run {
  readonly bootId: string;
  /** When its power came on. */
  readonly startedAt: number;
  /** When its kernel started, by the guest's clock: before `startedAt` when it went on from memory. */
  readonly bootedAt: number;
  /** Since when the guest's clock stands: it is paused, or holds its programs until it is told who it is. Null while the clock goes. */
  readonly stoodSince: number | null;
  readonly paused: boolean;
  /** Another for each time the power comes on. */
  readonly generation: string;
  /** When its programs were held, and in which generation. */
  readonly held: { readonly at: number; readonly generation: string } | null;
  /** What it publishes now. */
  readonly forwards: readonly PortForward[];
  /** The overlays its disks were switched to since, by the disk's name. */
  readonly overlays: Readonly<Record<string, Overlay>>;
  /** When the power was cut from outside. */
  readonly cutAt: number | null;
  readonly config: GuestConfig | null;
  /** When and how the process was asked to stop. */
  readonly stop: { readonly at: number; readonly signal: number; readonly timeoutMs: number } | null;
}

/** A file that a disk was switched to: its path then, and what tells it from others under any name. */
export interface Overlay {
  readonly path: string;
  readonly identity: string;
}

/** How long a guest holds its programs unless it finds itself in another generation. */
const holdsForMs = 2_000;

/** Whether the guest's programs are held now. */
export function isHeld(run: Run, now: number): boolean {
  if (!run.held) return false;
  return hasMoved(run) || now < run.held.at + holdsForMs;
}

/** Whether it holds in another generation than the one it began to hold in. */
export function hasMoved(run: Run): boolean {
  return run.held !== null && run.held.generation !== run.generation;
}

/** The run once the guest's clock goes again: all of the guest's times move by as long as it stood. */
export function goOn(run: Run, now: number): Run {
  if (run.stoodSince === null) return run;
  const stoodMs = now - run.stoodSince;
  const later = <T extends { readonly at: number }>(event: T | null) => event && { ...event, at: event.at + stoodMs };
  return {
    ...run,
    stoodSince: null,
    bootedAt: run.bootedAt + stoodMs,
    config: later(run.config),
    stop: later(run.stop),
  };
}

/** A line the guest writes to its control port, and when. */
export interface Fact {
  readonly at: number;
  readonly line: { readonly fact: string; readonly [key: string]: unknown };
}

/** What is to be seen of a run at one moment. */
export interface RunState {
  readonly power: "running" | "paused" | "stopped";
  readonly reason: string;
  readonly phase: "prepared" | "running" | "stopping" | "exited" | "failed";
  readonly ready: boolean;
  readonly waitingFor: string;
  readonly listening: readonly number[];
  readonly code: number | null;
  readonly signal: number | null;
}

/** How the run goes on if nothing else happens: times are milliseconds since the epoch, infinite for never. */
interface Fate {
  readonly readyAt: number;
  readonly ending: {
    readonly at: number;
    readonly code: number;
    readonly signal: number | null;
    readonly failure: string | null;
  };
  readonly offAt: number;
  readonly offReason: string;
}

/** What a process of the fake guest does by its name; any other runs until it is stopped. */
const shortLived: Readonly<Record<string, number>> = { true: 0, false: 1, echo: 0, env: 0 };
const never = Number.POSITIVE_INFINITY;
const killed = 9;

function fateOf(record: MachineRecord, run: Run): Fate {
  const knobs = { ...record.knobs, ...knobsOfEnvironment(run.config?.env ?? []) };
  /** While the guest's clock stands nothing more comes to pass in it. */
  const reached = (at: number) => (run.stoodSince !== null && at > run.stoodSince ? never : at);
  const readyAt = reached(run.config ? run.config.at + (numberOf(knobs, "ready-after") ?? 0) : never);
  const natural = endingOf(run, knobs);
  const ending = { ...natural, at: reached(natural.at) };
  const crashAt = run.startedAt + (numberOf(knobs, "crash-after") ?? never);
  const offAt = Math.min(ending.at, crashAt, run.cutAt ?? never);
  const offReason = offAt === crashAt && crashAt !== never ? "the fake machine lost its power by itself" : "";
  return { readyAt, ending, offAt, offReason };
}

function endingOf(run: Run, knobs: Knobs): Fate["ending"] {
  const { config, stop } = run;
  if (!config) return { at: stop?.at ?? never, code: 0, signal: null, failure: null };
  const failure = knobs.fail ?? failureOf(config.argv);
  if (failure) return { at: config.at, code: 127, signal: null, failure };
  const program = programName(config.argv);
  const natural =
    numberOf(knobs, "exit-after") ?? (program in shortLived || knobs["exit-code"] !== undefined ? 0 : never);
  const code = numberOf(knobs, "exit-code") ?? shortLived[program] ?? 0;
  const stubborn = stop !== null && (isOn(knobs, "ignore-stop") || stop.timeoutMs === 0);
  const stoppedAt = stop ? stop.at + (stubborn ? stop.timeoutMs : 0) : never;
  if (config.at + natural <= stoppedAt) return { at: config.at + natural, code, signal: null, failure: null };
  const signal = stubborn ? killed : (stop?.signal ?? killed);
  return { at: stoppedAt, code: 128 + signal, signal, failure: null };
}

function failureOf(argv: readonly string[]): string | undefined {
  const [program] = argv;
  if (program === undefined) return "no command specified";
  return programName(argv).startsWith("does-not-exist")
    ? `exec: "${program}": stat ${program}: no such file or directory`
    : undefined;
}

/** The last part of a program's path. */
export function programName(argv: readonly string[]): string {
  return argv[0]?.split("/").at(-1) ?? "";
}

/** What the process writes to the console when it starts. */
export function firstWords(config: Pick<GuestConfig, "argv" | "env">): string {
  const program = programName(config.argv);
  if (program === "echo") return `${config.argv.slice(1).join(" ")}\n`;
  if (program === "env") return config.env.map((entry) => `${entry}\n`).join("");
  return `${config.argv.join(" ")} began\n`;
}

/** What is to be seen of a machine now; null for one that never ran. */
export function runState(record: MachineRecord, now: number): RunState | null {
  const { run } = record;
  if (!run) return null;
  const fate = fateOf(record, run);
  const off = now >= fate.offAt;
  const ended = run.config !== null && fate.ending.at <= Math.min(now, fate.offAt);
  const ready = !ended && now >= fate.readyAt;
  const running = run.stop ? ("stopping" as const) : run.config ? ("running" as const) : ("prepared" as const);
  const waiting = running === "running" && !ready && run.config?.watchPorts[0] !== undefined;
  return {
    power: off ? "stopped" : run.paused ? "paused" : "running",
    reason: off ? fate.offReason : "",
    phase: ended ? (fate.ending.failure ? "failed" : "exited") : running,
    ready,
    waitingFor: waiting
      ? `nothing listens on port ${run.config?.watchPorts[0]} yet`
      : (ended && fate.ending.failure) || "",
    listening: ready ? (run.config?.watchPorts ?? []) : [],
    code: ended ? fate.ending.code : null,
    signal: ended ? fate.ending.signal : null,
  };
}

/** Whether it has power now, paused or not. */
export function isPoweredOn(record: MachineRecord): boolean {
  return (runState(record, Date.now())?.power ?? "stopped") !== "stopped";
}

/** Everything the guest says by itself during its run, as it would go on from here, in order. */
export function factsOf(record: MachineRecord): readonly Fact[] {
  const { run } = record;
  if (!run) return [];
  const fate = fateOf(record, run);
  const facts: Fact[] = [];
  const say = (at: number, fact: string, more: object = {}) => {
    if (at !== never && at <= fate.offAt) facts.push({ at, line: { fact, uptimeMs: at - run.bootedAt, ...more } });
  };
  say(run.bootedAt, "prepared");
  if (!run.config) return facts;
  const { ending } = fate;
  if (ending.failure) {
    say(ending.at, "failed", { code: ending.code, reason: ending.failure });
    return facts;
  }
  say(run.config.at, "started");
  if (run.held && !hasMoved(run)) say(run.held.at + holdsForMs, "released", { by: "time" });
  const [firstPort] = run.config.watchPorts;
  if (fate.readyAt > run.config.at && firstPort !== undefined) {
    say(run.config.at, "waiting", { reason: `nothing listens on port ${firstPort} yet` });
  }
  if (fate.readyAt < ending.at) {
    for (const port of run.config.watchPorts) say(fate.readyAt, "listening", { port });
    say(fate.readyAt, "ready");
  }
  say(ending.at, "exited", { code: ending.code, signal: ending.signal });
  return facts.sort((a, b) => a.at - b.at);
}

/** The guest's answer to `hello`. */
export function helloOf(record: MachineRecord, now: number): Fact["line"] {
  const state = runState(record, now);
  const { run } = record;
  return {
    fact: "hello",
    uptimeMs: run ? (run.stoodSince ?? now) - run.bootedAt : 0,
    protocol: 1,
    bootId: run?.bootId ?? "",
    generation: run?.generation ?? "",
    held: run !== null && isHeld(run, now),
    moved: run !== null && hasMoved(run),
    phase: state?.phase ?? "booting",
    ready: state?.ready ?? false,
    reason: state?.waitingFor ?? "",
    listening: state?.listening ?? [],
    code: state?.code ?? null,
    signal: state?.signal ?? null,
  };
}

/** Whether the guest of this machine keeps quiet. */
export function isSilent(record: MachineRecord): boolean {
  return isOn({ ...record.knobs, ...knobsOfEnvironment(record.run?.config?.env ?? []) }, "silent");
}
/** Whether the guest does not listen to being told to stop. */
export function isDeaf(record: MachineRecord): boolean {
  return isOn({ ...record.knobs, ...knobsOfEnvironment(record.run?.config?.env ?? []) }, "deaf");
}
