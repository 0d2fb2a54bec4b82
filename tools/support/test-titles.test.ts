import { expect, test } from "vitest";
import { testTitles } from "./test-titles.ts";

test("finds the titles of tests that run, however they are called", () => {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the text of a program.
  const two = "two ${words}";
  const text = [
    'test("one", () => {});',
    `it(\`${two}\`, () => {});`,
    'test.each([["a", 1]])("three %s", () => {});',
    'it.runIf(isRoot)("four", async () => { await test.step("no"); });',
    'describe("a group", () => { test.for([1])("five", () => {}); });',
    'test.skip("never", () => {}); it.todo("some day"); // test("in a comment", …)',
    'const said = "six"; test(said, () => {}); other("seven"); pattern.test("eight");',
  ].join("\n");
  expect(testTitles(text)).toEqual(["one", two, "three %s", "four", "a group", "five"]);
});
