import { anything, assert, property, string } from "fast-check";
import { describe, expect, it } from "vitest";
import { parseFact, stateFromLog, unknownGuest } from "./facts.ts";

const hello = (bootId: string, phase = "booting") =>
  JSON.stringify({
    ...{ fact: "hello", uptimeMs: 1, protocol: 1, bootId, phase },
    ...{ ready: false, reason: "", listening: [], code: null, signal: null, held: false, moved: false, generation: "" },
  });
const fact = (name: string, more: object = {}) => JSON.stringify({ fact: name, uptimeMs: 5, ...more });

describe("a guest's words", () => {
  it("are never trusted to be facts", () => {
    void assert(property(string(), (text) => void parseFact(text)));
    void assert(property(anything(), (value) => void parseFact(JSON.stringify({ fact: value, code: value }) ?? "")));
    expect(parseFact(fact("exited", { code: 256, signal: null }))).toBeUndefined();
    expect(parseFact(fact("failed", { code: 1, reason: "x".repeat(10_000) }))).toBeUndefined();
    expect(parseFact(fact("nonsense"))).toBeUndefined();
  });

  it("tell how the last boot ended, whatever stands between", () => {
    const lines = [
      hello("a"),
      fact("exited", { code: 3, signal: null }),
      hello("b"),
      '{"fact":"star',
      fact("started"),
      fact("listening", { port: 80 }),
      fact("ready"),
      fact("exited", { code: 137, signal: 9 }),
    ];
    expect(stateFromLog(lines)).toMatchObject({
      ...{ bootId: "b", phase: "exited", ready: false, listening: [80] },
      exit: { code: 137, signal: 9 },
    });
    expect(stateFromLog(lines.slice(0, 3))).toMatchObject({ bootId: "b", exit: null });
    expect(stateFromLog([])).toEqual(unknownGuest);
  });

  it("say why nothing could be started", () => {
    expect(stateFromLog([hello("a"), fact("failed", { code: 127, reason: "no such file" })]).failure).toEqual({
      code: 127,
      reason: "no such file",
    });
  });
});
