import { BerthError, type ErrorCode, errorCatalogue } from "@berth/api";

/**
 * What can be made to go wrong with a fake machine, by name and text. Given to the driver for all its machines, as a label of one instance
 * (`berth.fake/start-error=port_taken`), or, those marked G, as a variable of its environment (`BERTH_FAKE_EXIT_CODE=3`). Times are in milliseconds.
 */
export const knobNames = [
  /** The call fails with this error code; `host_program_failed*2` fails twice, as something that may pass, and then works. */
  "create-error",
  "start-error",
  "power-off-error",
  "destroy-error",
  "save-memory-error",
  "switch-disks-error",
  "grow-disk-error",
  /** `saveMemory` takes this long before anything is stopped, or `forever`; it can be cancelled. */
  "save-memory-block",
  /** The first so many saves switch the disks and then fail, before the memory is whole. */
  "lose-memory",
  /** The first so many saves do it all and then fail as if the answer got lost. */
  "lose-saved",
  /** What is saved is damaged, so nothing can go on from it. */
  "memory-damaged",
  /** The machine cannot go on from any memory, as if it were another build's. */
  "memory-refused",
  /** So many connections to its ports are open. */
  "connections",
  /** There are none any more so long after its start. */
  "idle-after",
  /** `start` takes this long, or `forever`; it can be cancelled. */
  "start-block",
  /** The first so many creates make the machine and then fail as if the answer got lost: nobody has its handle. */
  "lose-handle",
  /** After so many calls about the machine, every further one fails. */
  "fail-after",
  /** The first so many looks at the running machine say that it is off. */
  "power-flaps",
  /** The machine loses its power this long after its start. */
  "crash-after",
  /** The guest writes this to its console as it boots. */
  "boot-message",
  /** G: the guest never says a word on its control port. */
  "silent",
  /** G: how long after its start the process listens on its ports; `never`. */
  "ready-after",
  /** G: the process ends by itself so long after its start. */
  "exit-after",
  /** G: with this exit code. */
  "exit-code",
  /** G: the process cannot be started, for this reason. */
  "fail",
  /** G: the process does not end by its stop signal. */
  "ignore-stop",
  /** G: the guest does not obey when it is told to stop: only the loss of its power ends it. */
  "deaf",
] as const;

export type KnobName = (typeof knobNames)[number];
export type Knobs = Readonly<Partial<Record<KnobName, string>>>;

const labelPrefix = "berth.fake/";
const variablePrefix = "BERTH_FAKE_";

/** The knobs among an instance's labels. */
export function knobsOfLabels(labels: Readonly<Record<string, string>>): Knobs {
  return pick((name) => labels[labelPrefix + name]);
}

/** The knobs among environment variables, written `NAME=value`. */
export function knobsOfEnvironment(env: readonly string[]): Knobs {
  const values = new Map(env.map((entry) => [entry.split("=", 1)[0] ?? "", entry.slice(entry.indexOf("=") + 1)]));
  return pick((name) => values.get(variablePrefix + name.toUpperCase().replaceAll("-", "_")));
}

function pick(textOf: (name: KnobName) => string | undefined): Knobs {
  const found = knobNames.map((name) => [name, textOf(name)] as const).filter(([, value]) => value !== undefined);
  return Object.fromEntries(found);
}

/** A knob's number; `forever` and `never` are beyond any time. */
export function numberOf(knobs: Knobs, name: KnobName): number | undefined {
  const text = knobs[name];
  if (text === undefined) return undefined;
  if (text === "forever" || text === "never") return Number.POSITIVE_INFINITY;
  const number = Number(text);
  if (text === "" || !(number >= 0))
    throw new BerthError("invalid_request", `The knob ${name} takes a number, not "${text}".`);
  return number;
}

/** Whether a knob without a value of its own is on. */
export function isOn(knobs: Knobs, name: KnobName): boolean {
  return knobs[name] !== undefined && knobs[name] !== "false";
}

/** The error a knob asks for at the `nth` call (from 1), if any. */
export function errorAt(knobs: Knobs, name: KnobName, nth: number): Error | undefined {
  const text = knobs[name];
  if (text === undefined) return undefined;
  const [code = "", times] = text.split("*");
  if (!Object.hasOwn(errorCatalogue, code)) {
    return new BerthError("invalid_request", `The knob ${name} takes a code of the error catalogue, not "${code}".`);
  }
  const error = new BerthError(code as ErrorCode, `The fake machine was told to fail: ${name}=${text}.`);
  if (times === undefined) return error;
  return nth <= Number(times) ? mayPass(error) : undefined;
}

/** Marks an error as one whose cause may pass by itself. */
export function mayPass<E extends Error>(error: E): E {
  return Object.assign(error, { transient: true });
}
