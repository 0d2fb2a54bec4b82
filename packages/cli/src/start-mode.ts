import type { InstanceStart } from "@berth/api";

const words: Readonly<Record<InstanceStart["mode"], string>> = {
  cold: "Booted",
  warm: "Warm start",
  pool: "From a pool",
  resumed: "Resumed",
  forked: "Forked",
  restored: "Restored",
};

/** How a run began, and why so, in a line. */
export function howItBegan({ mode, reason }: InstanceStart): string {
  return reason ? `${words[mode]}: ${reason}.` : `${words[mode]}.`;
}
