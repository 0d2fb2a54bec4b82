import { describe, expect, it } from "vitest";
import { chooseStart, type StartSituation } from "./choose-start.ts";

const template = { id: "tpl-00000000000000001", state: "ready", reason: "" } as const;
const ready: StartSituation = { policy: "auto", able: true, untouched: true, first: true, template };

function choose(change: Partial<StartSituation>) {
  const choice = chooseStart({ ...ready, ...change });
  return "refuse" in choice ? choice.refuse.code : [choice.from, choice.reason];
}

describe("what a start begins from", () => {
  it.each<[string, Partial<StartSituation>, string | string[]]>([
    ["the template of its shape", {}, [template.id, `cloned from the template ${template.id}`]],
    [
      "the same when that was required",
      { policy: "require" },
      [template.id, `cloned from the template ${template.id}`],
    ],
    ["nothing when a cold start was asked for", { policy: "never" }, ["boot", "a cold start was asked for"]],
    [
      "nothing once its disk was written to, whatever was asked for",
      { policy: "require", untouched: false },
      ["boot", "its disk has been written to: only a first start can go on from a template"],
    ],
    [
      "nothing where there is no template",
      { template: undefined },
      ["boot", "there was no template of this shape yet"],
    ],
    [
      "nothing while it is being made",
      { template: { ...template, state: "building" } },
      ["boot", `the template of this shape (${template.id}) is still being made`],
    ],
    [
      "nothing when it could not be made",
      { template: { ...template, state: "failed", reason: "no" } },
      ["boot", "the template of this shape could not be made: no"],
    ],
    ["nothing where none are kept", { able: false, template: undefined }, ["boot", "its driver keeps no templates"]],
    ["what is required and not there is refused", { policy: "require", template: undefined }, "template_failed"],
    ["what is required where none are kept is refused", { policy: "require", able: false }, "template_failed"],
    [
      "the program too when that was asked for",
      { policy: "app" },
      [template.id, `cloned from the template ${template.id}`],
    ],
    ["never another template than its disk is of", { policy: "app", untouched: false }, "template_failed"],
    [
      "nothing once it has run, also then",
      { policy: "app", untouched: false, first: false },
      ["boot", "its disk has been written to: only a first start can go on from a template"],
    ],
  ])("%s", (_, change, expected) => {
    expect(choose(change)).toEqual(expected);
  });
});
