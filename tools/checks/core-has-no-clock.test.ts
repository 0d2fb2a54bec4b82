import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/parts.ts";

/** What asks the time, chance or the surroundings; rules are given these as data. */
const impure =
  /\bDate\.now\b|\bnew Date\(\)|\bperformance\.|\bMath\.random\b|\bset(?:Timeout|Interval|Immediate)\b|\bprocess\.|\bfetch\(/;

test("core decides from what it is given: it asks no clock, no dice and no process", () => {
  const folder = join(repositoryRoot, "packages/daemon/src/core");
  const files = readdirSync(folder).filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"));
  expect(files.length).toBeGreaterThan(3);
  const offending = files.flatMap((name) =>
    readFileSync(join(folder, name), "utf8")
      .split("\n")
      .flatMap((line, index) =>
        impure.test(line.replace(/\/\/.*|^\s*\/?\*.*/, "")) ? [`${name}:${index + 1}: ${line.trim()}`] : [],
      ),
  );
  expect(offending).toEqual([]);
});

test("the search finds what it is for", () => {
  for (const line of ["const now = Date.now();", "setTimeout(() => {}, 1)", "x(Math.random)"])
    expect(impure.test(line)).toBe(true);
  expect(impure.test("const at = new Date(now);")).toBe(false);
});
