import { constants } from "node:os";

/** The first real-time signal that programs may use; the C library keeps 32 and 33 for itself. */
const realTimeBase = 34;
const realTimeLimit = 64;

/**
 * The number of a signal written as docker takes it: `SIGTERM`, `term`, `15`, `RTMIN+3`, `SIGRTMAX-1`; empty is SIGTERM. Linux has the same
 * numbers on every architecture that Berth runs on. Undefined for anything else.
 */
export function signalNumber(text: string): number | undefined {
  const name = text.trim().toUpperCase().replace(/^SIG/, "");
  const number = name === "" ? constants.signals.SIGTERM : /^\d+$/.test(name) ? Number(name) : namedSignal(name);
  return number !== undefined && number >= 1 && number <= realTimeLimit ? number : undefined;
}

function namedSignal(name: string): number | undefined {
  const realTime = /^RT(?:MIN(?:\+(\d+))?|MAX(?:-(\d+))?)$/.exec(name);
  if (realTime?.[0].startsWith("RTMIN")) return realTimeBase + Number(realTime[1] ?? 0);
  if (realTime) return realTimeLimit - Number(realTime[2] ?? 0);
  return (constants.signals as Partial<Record<string, number>>)[`SIG${name}`];
}
