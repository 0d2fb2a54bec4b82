import { describe, expect, it } from "vitest";
import { signalNumber } from "./signal-number.ts";

describe("a signal", () => {
  it.each([
    ["", 15],
    ["SIGQUIT", 3],
    ["int", 2],
    ["9", 9],
    ["RTMIN+3", 37],
    ["SIGRTMAX-1", 63],
  ])("%s is number %i", (text, number) => {
    expect(signalNumber(text)).toBe(number);
  });

  it.each(["SIGNOPE", "0", "65", "RTMIN+40", "-1"])("%s is none", (text) => {
    expect(signalNumber(text)).toBeUndefined();
  });
});
