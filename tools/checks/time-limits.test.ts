import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/parts.ts";

/** Its time limit is a second when none is given, and whatever seemed enough on somebody's machine when one is. */
const impatient = /\bvi\.waitFor\(|\bvi\.waitUntil\(/;

test("tests that look until something is so have one time limit, that of eventually()", () => {
  const files = globSync(["packages/*/src/**/*.ts", "{test,tools,bench}/**/*.ts"], { cwd: repositoryRoot });
  expect(files.length).toBeGreaterThan(300);
  const hasOne = (file: string) => impatient.test(readFileSync(join(repositoryRoot, file), "utf8"));
  const eventually = "test/support/eventually.ts";
  expect(files.filter((file) => file !== eventually && hasOne(file))).toEqual([]);
  expect(hasOne(eventually)).toBe(true);
});
