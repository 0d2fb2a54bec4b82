import { expect, it } from "vitest";
import { type HalfSwitch, remedySwitch, type SwitchRemedy } from "./disk-switch.ts";

const running: HalfSwitch = { begun: true, offAllAlong: false, power: "running", switched: false };

it.each<[string, Partial<HalfSwitch>, SwitchRemedy]>([
  ["what was only prepared goes", { begun: false }, "forget"],
  ["so it does when the machine has gone off meanwhile", { begun: false, power: "stopped" }, "forget"],
  ["a machine that was off has its files back", { offAllAlong: true, power: "stopped" }, "take-back"],
  ["one that runs on its old files keeps them", {}, "forget"],
  ["one that runs on the new ones keeps those", { switched: true }, "finish"],
  ["a paused one, too", { power: "paused", switched: true }, "finish"],
  ["one that ran and is off may have written to the new ones", { power: "stopped" }, "finish"],
])("%s", (_, seen, remedy) => {
  expect(remedySwitch({ ...running, ...seen })).toBe(remedy);
});
