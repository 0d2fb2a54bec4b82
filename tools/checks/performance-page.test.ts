import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { performanceFiles } from "../../bench/support/performance-files.ts";
import { repositoryRoot } from "../support/parts.ts";

test("docs/performance.md and its chart are what bench/results says", async () => {
  for (const [path, content] of Object.entries(await performanceFiles()))
    expect(readFileSync(join(repositoryRoot, path), "utf8")).toBe(content);
});
