import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/parts.ts";

test("every driver has its line in the map, and its part in the contract suite", () => {
  const folder = join(repositoryRoot, "packages/daemon/src/drivers");
  const drivers = readdirSync(folder, { withFileTypes: true }).flatMap((one) => (one.isDirectory() ? one.name : []));
  expect(drivers).toContain("fake");
  const map = readFileSync(join(folder, "index.ts"), "utf8");
  expect(drivers.filter((name) => !map.includes(`"./${name}/`))).toEqual([]);
  const tests = (name: string) => readdirSync(join(folder, name)).filter((file) => file.endsWith(".test.ts"));
  const proved = (name: string) =>
    tests(name).some((file) => readFileSync(join(folder, name, file), "utf8").includes("../contract.ts"));
  expect(drivers.filter((name) => !proved(name))).toEqual([]);
  expect(existsSync(join(folder, "contract.ts"))).toBe(true);
});
