/** What is seen of disks that were to be switched and are to be as before. */
export interface HalfSwitch {
  /** Whether the switch itself was begun: until then nothing of it can have happened. */
  readonly begun: boolean;
  /** Whether the machine was off from before the switch was prepared until now: then nobody has written to what takes the disks' place. */
  readonly offAllAlong: boolean;
  readonly power: "running" | "paused" | "stopped";
  /** Whether the running machine writes to what takes its disks' place. */
  readonly switched: boolean;
}

/**
 * How that is done. `forget`: what was prepared goes. `take-back`: the files change places once more. `finish`: the machine has written to the new files, or may have, so they
 * are its disks from now on, over the old ones; what its guest sees is the same.
 */
export type SwitchRemedy = "forget" | "take-back" | "finish";

/** Decides how disks become as before when a switch of them is given up half way. */
export function remedySwitch({ begun, offAllAlong, power, switched }: HalfSwitch): SwitchRemedy {
  if (!begun) return "forget";
  if (offAllAlong) return "take-back";
  if (power === "stopped") return "finish";
  return switched ? "finish" : "forget";
}
