import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { dataFolderNames } from "../../packages/daemon/src/data-folder.ts";
import { readPage } from "../support/markdown.ts";
import { repositoryRoot } from "../support/parts.ts";

/** The names in the first column of a page's tables. */
function firstColumn(page: string): string[] {
  const cells = [...page.matchAll(/^\| (`[^|]+) \|/gm)].map(([, cell]) => cell ?? "");
  return cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, name]) => name ?? ""));
}

function settingsIn(file: string): Set<string> {
  return new Set(readFileSync(join(repositoryRoot, file), "utf8").match(/\bBERTH_[A-Z_]+/g));
}

test("docs/settings.md has every setting that is read, and no other", () => {
  // The one left out is for the fault tests alone.
  const read = new Set([...settingsIn("packages/daemon/src/config.ts"), ...settingsIn("packages/cli/src/settings.ts")]);
  read.delete("BERTH_FAULT");
  expect(firstColumn(readPage("docs/settings.md")).sort()).toEqual([...read].sort());
});

test("docs/on-disk.md has everything that is put into the data folder, and nothing else", () => {
  const names = firstColumn(readPage("docs/on-disk.md")).map((name) =>
    name.startsWith("-") ? `berth.db${name}` : (name.split("/")[0] ?? ""),
  );
  expect([...new Set(names)].sort()).toEqual([...dataFolderNames].sort());
});
