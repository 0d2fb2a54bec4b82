import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { allPaths, findLeaf } from "./tree.ts";

const document = readFileSync(new URL("../../../docs/cli.md", import.meta.url), "utf8");

test.each(allPaths().map((path) => path.join(" ")))("docs/cli.md has an example of berth %s", (path) => {
  expect(document).toMatch(new RegExp(`^\\| \`berth ${path}[ \`]`, "m"));
});

test("docs/cli.md names no command that is not there", () => {
  const named = [...document.matchAll(/^\| `berth ([^`]+)`/gm)].map((match) => (match[1] ?? "").split(" "));
  expect(named.length).toBeGreaterThan(20);
  expect(named.filter((words) => !findLeaf(words))).toEqual([]);
});
