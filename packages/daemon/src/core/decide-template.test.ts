import { describe, expect, it } from "vitest";
import { decideTemplate, type ObservedTemplate, type TemplateStepName } from "./decide-template.ts";

const nothing: ObservedTemplate = {
  artifact: false,
  disks: false,
  folder: false,
  made: false,
  power: "stopped",
  powerReason: "",
  prepared: false,
  ended: null,
  saved: false,
};
const running: ObservedTemplate = {
  ...nothing,
  artifact: true,
  disks: true,
  folder: true,
  made: true,
  power: "running",
};
const saved: ObservedTemplate = { ...running, power: "stopped", saved: true };

function next(base: ObservedTemplate, seen: Partial<ObservedTemplate>, ...finished: TemplateStepName[]) {
  const decision = decideTemplate({ ...base, ...seen }, new Set(finished));
  if ("run" in decision) return decision.run;
  return "fail" in decision ? decision.fail.code : "done";
}

describe("what is next in making a template", () => {
  it.each<[string, string, () => string]>([
    ["its image must be there", "template_failed", () => next(nothing, {})],
    ["then come the disks", "create-disks", () => next(nothing, { artifact: true })],
    ["then the machine", "create-machine", () => next(running, { made: false, power: "stopped" })],
    ["then the power", "start-machine", () => next(running, { power: "stopped" })],
    ["then the guest is waited for", "await-prepared", () => next(running, {}, "start-machine")],
    ["a guest that waits is saved", "save-memory", () => next(running, { prepared: true })],
    ["one whose process ended fails", "template_failed", () => next(running, { ended: "it ended with 3" })],
    ["one that never waits fails", "template_failed", () => next(running, {}, "start-machine", "await-prepared")],
    [
      "one that goes off too early fails",
      "template_failed",
      () => next(running, { power: "stopped" }, "start-machine"),
    ],
    ["one that a killed berthd left paused goes on", "start-machine", () => next(running, { power: "paused" })],
    ["what is saved is off", "power-off", () => next(saved, { power: "paused" })],
    ["then its disks are kept, or found empty", "keep-disks", () => next(saved, {}, "power-off")],
    ["then the machine goes", "destroy-machine", () => next(saved, {}, "power-off", "keep-disks")],
    ["then its folder", "delete-disks", () => next(saved, { made: false }, "power-off", "keep-disks")],
    ["then it is done", "done", () => next(saved, { made: false, disks: false, folder: false }, "power-off")],
  ])("%s", (_, expected, decide) => {
    expect(decide()).toBe(expected);
  });
});

const effects: Record<TemplateStepName, Partial<ObservedTemplate>> = {
  "create-disks": { disks: true, folder: true },
  "create-machine": { made: true },
  "start-machine": { power: "running" },
  "await-prepared": { prepared: true },
  "save-memory": { saved: true, power: "stopped", prepared: false },
  "power-off": { power: "stopped", prepared: false },
  "keep-disks": {},
  "destroy-machine": { made: false },
  "delete-disks": { disks: false, folder: false },
};

describe("convergence", () => {
  it("makes a template from every state, and leaves nothing of its machine", () => {
    const flags = [false, true];
    const states = flags.flatMap((disks) =>
      flags.flatMap((made) =>
        flags.flatMap((saved) =>
          (["running", "paused", "stopped"] as const).map((power) => ({
            ...nothing,
            artifact: true,
            disks,
            folder: disks || made,
            made: made || power !== "stopped",
            power,
            saved,
          })),
        ),
      ),
    );
    for (const start of states) {
      let world: ObservedTemplate = start;
      const finished = new Set<TemplateStepName>();
      for (let steps = 0; ; steps += 1) {
        expect(steps).toBeLessThanOrEqual(12);
        const decision = decideTemplate(world, finished);
        if (!("run" in decision)) {
          expect(decision).toEqual({ done: true });
          break;
        }
        world = { ...world, ...effects[decision.run] };
        finished.add(decision.run);
      }
      expect(world).toMatchObject({ saved: true, power: "stopped", made: false, folder: false });
    }
  });
});
