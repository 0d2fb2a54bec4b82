import { BerthError } from "@berth/api";
import { TransientError, type Workflow } from "./workflow.ts";

/** What happens at a fault point. */
const modes = ["kill", "fail", "flake", "pause"] as const;
type FaultMode = (typeof modes)[number];

/** Places where a test lets the daemon die or stumble. */
export interface FaultPoints {
  /** Passes by, unless this point is the one chosen. */
  pass(name: string, signal: AbortSignal): Promise<void>;
}

/** Every place is passed by. */
export const noFaults: FaultPoints = { pass: async () => undefined };

/**
 * Chooses points, with commas between them: a name kills the process there with SIGKILL; `fail:NAME` throws an error, `flake:NAME` one that is tried again, `pause:NAME`
 * waits until the operation is cancelled or the daemon shuts down, and `onPause` hears that it does. Each happens once. Without a setting every point is passed by.
 */
export function createFaultPoints(
  setting: string | undefined,
  onPause: (name: string) => void = () => undefined,
): FaultPoints {
  if (!setting) return noFaults;
  const armed = new Map(setting.split(",").map(parseSetting));
  return {
    pass: async (name, signal) => {
      const mode = armed.get(name);
      armed.delete(name);
      if (mode) await act[mode](name, signal, onPause);
    },
  };
}

function parseSetting(setting: string): readonly [name: string, mode: FaultMode] {
  const mode = modes.find((one) => setting.startsWith(`${one}:`));
  return mode ? [setting.slice(mode.length + 1), mode] : [setting, "kill"];
}

const act: Record<FaultMode, (name: string, signal: AbortSignal, onPause: (name: string) => void) => Promise<void>> = {
  kill: async () => {
    process.kill(process.pid, "SIGKILL");
    // The signal may take a moment to be delivered; nothing may happen in it.
    await new Promise(() => undefined);
  },
  fail: async (name) => {
    throw new BerthError("internal", `The fault point ${name} was set to fail.`);
  },
  flake: async (name) => {
    throw new TransientError(`the fault point ${name} was set to fail once`);
  },
  pause: (name, signal, onPause) =>
    new Promise((_resolve, reject) => {
      onPause(name);
      const onAbort = () => reject(signal.reason);
      if (signal.aborted) onAbort();
      else signal.addEventListener("abort", onAbort, { once: true });
    }),
};

/** The fault points around a step's `run` and `undo`, and around the end of an operation. */
export const faultNames = {
  run: (type: string, step: string, side: "before" | "after") => `${type}/${step}/${side}`,
  undo: (type: string, step: string, side: "before" | "after") => `${type}/${step}/undo/${side}`,
  settle: (type: string, side: "before" | "after") => `${type}/settle/${side}`,
};

/** The name of every fault point there is. */
export function listFaultPoints(workflows: readonly Workflow[]): string[] {
  const sides = ["before", "after"] as const;
  return workflows.flatMap(({ type, steps }) => [
    ...steps.flatMap((step) => sides.map((side) => faultNames.run(type, step.name, side))),
    ...steps.filter((step) => step.undo).flatMap((step) => sides.map((side) => faultNames.undo(type, step.name, side))),
    ...sides.map((side) => faultNames.settle(type, side)),
  ]);
}
