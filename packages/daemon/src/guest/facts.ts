import { z } from "zod";

const uptimeMs = z.number().int().min(0);
const words = z.string().max(8192);
const port = z.number().int().min(1).max(65535);
const exitCode = z.number().int().min(0).max(255);
const generation = z.string().max(64);
/** Who let go what was stopped: the host, or the guest itself when no host came back in time. */
const releaser = z.enum(["host", "time"]);
const exitSignal = z.number().int().min(1).max(64).nullable();

/** Where the guest stands: booting, waiting for its configuration, running the image's process, or done with it. */
export const guestPhases = ["booting", "prepared", "running", "stopping", "exited", "failed"] as const;

/** One thing a guest says of itself (docs/guest-protocol.md). The guest is hostile: everything is bounded, and nothing more is believed. */
export const GuestFact = z.discriminatedUnion("fact", [
  z.object({
    fact: z.literal("hello"),
    uptimeMs,
    protocol: z.number().int(),
    bootId: z.string().min(1).max(64),
    phase: z.enum(guestPhases),
    ready: z.boolean(),
    reason: words,
    listening: z.array(port).max(1024),
    code: exitCode.nullable(),
    signal: exitSignal,
    held: z.boolean(),
    moved: z.boolean(),
    generation,
  }),
  z.object({ fact: z.literal("prepared"), uptimeMs }),
  z.object({ fact: z.literal("started"), uptimeMs }),
  z.object({ fact: z.literal("listening"), uptimeMs, port }),
  z.object({ fact: z.literal("waiting"), uptimeMs, reason: words }),
  z.object({ fact: z.literal("ready"), uptimeMs }),
  z.object({ fact: z.literal("exited"), uptimeMs, code: exitCode, signal: exitSignal }),
  z.object({ fact: z.literal("failed"), uptimeMs, code: exitCode, reason: words }),
  z.object({ fact: z.literal("refused"), command: z.string().max(32).optional(), reason: words }),
  z.object({
    ...{ fact: z.literal("watching"), uptimeMs, ready: z.boolean() },
    ...{ reason: words, listening: z.array(port).max(1024) },
  }),
  z.object({ fact: z.literal("grown"), uptimeMs }),
  z.object({ fact: z.literal("frozen"), uptimeMs }),
  z.object({ fact: z.literal("thawed"), uptimeMs, by: releaser }),
  z.object({ fact: z.literal("held"), uptimeMs, generation }),
  z.object({ fact: z.literal("released"), uptimeMs, by: releaser }),
  z.object({ fact: z.literal("identified"), uptimeMs, hookCode: exitCode.nullable() }),
]);
export type GuestFact = z.infer<typeof GuestFact>;

/** How the image's process ended; `signal` is the number of the signal that ended it, if one did. */
export interface GuestExit {
  readonly code: number;
  readonly signal: number | null;
}

/** Commands whose refusal is told to whoever gave them; it says nothing of how the guest is. */
const answered: ReadonlySet<string> = new Set(["hold", "release", "freeze", "thaw", "watch", "grow"]);

/** What is known of one guest in its present boot. */
export interface GuestState {
  /** Random for each boot; empty until the guest has said hello. */
  readonly bootId: string;
  readonly phase: (typeof guestPhases)[number];
  /** The process runs and every watched port is listened on. */
  readonly ready: boolean;
  /** Why it is not ready, in words; empty when there is nothing to say. */
  readonly reason: string;
  readonly listening: readonly number[];
  readonly exit: GuestExit | null;
  /** Why the process could not be started, and the exit code that docker gives for it. */
  readonly failure: { readonly code: number; readonly reason: string } | null;
  /** All programs of the image stand still. */
  readonly held: boolean;
  /** It holds, and goes on in another machine than the one it began to hold in: it must be told who it is. */
  readonly moved: boolean;
}

export const unknownGuest: GuestState = {
  bootId: "",
  phase: "booting",
  ready: false,
  reason: "",
  listening: [],
  exit: null,
  failure: null,
  held: false,
  moved: false,
};

/** The state after one more fact; pure. A hello tells all and begins anew. */
export function applyFact(state: GuestState, fact: GuestFact): GuestState {
  switch (fact.fact) {
    case "hello":
      return {
        bootId: fact.bootId,
        phase: fact.phase,
        // What was so in another machine is to be seen anew in this one.
        ready: fact.ready && !fact.moved,
        reason: fact.moved ? "it goes on when it has been told who it is" : fact.phase === "failed" ? "" : fact.reason,
        listening: fact.moved ? [] : fact.listening,
        exit: fact.phase === "exited" ? { code: fact.code ?? 0, signal: fact.signal } : null,
        failure: fact.phase === "failed" ? { code: fact.code ?? 126, reason: fact.reason } : null,
        held: fact.held,
        moved: fact.moved,
      };
    case "prepared":
      return { ...state, phase: "prepared" };
    case "started":
      return { ...state, phase: "running" };
    case "listening":
      return state.listening.includes(fact.port) || state.listening.length >= 1024
        ? state
        : { ...state, listening: [...state.listening, fact.port] };
    case "waiting":
      return { ...state, reason: fact.reason };
    case "refused":
      return answered.has(fact.command ?? "") ? state : { ...state, reason: fact.reason };
    case "ready":
      return { ...state, ready: true, reason: "" };
    case "exited":
      return { ...state, phase: "exited", ready: false, reason: "", exit: { code: fact.code, signal: fact.signal } };
    case "failed":
      return { ...state, phase: "failed", ready: false, failure: { code: fact.code, reason: fact.reason } };
    case "held":
      return { ...state, held: true };
    case "released":
      return { ...state, held: false };
    case "identified":
      return { ...state, held: false, moved: false, ready: false, reason: "", listening: [] };
    case "watching":
      return { ...state, ready: fact.ready, reason: fact.reason, listening: fact.listening };
    case "grown":
    case "frozen":
    case "thawed":
      return state;
  }
}

/** Reads one line; undefined for what is no fact: half a line, or one from a guest that does not keep the protocol. */
export function parseFact(line: string): GuestFact | undefined {
  try {
    return GuestFact.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

/** Reads the facts among the lines of a control log. */
function parseFacts(lines: readonly string[]): readonly GuestFact[] {
  return lines.map(parseFact).filter((fact) => fact !== undefined);
}

/** What the lines of a control log tell of the last boot in them. */
export function stateFromLog(lines: readonly string[]): GuestState {
  return parseFacts(lines).reduce(applyFact, unknownGuest);
}
