import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Proof, promisesOf, readPage } from "../support/markdown.ts";
import { repositoryRoot } from "../support/parts.ts";
import { testTitles } from "../support/test-titles.ts";

const promises = promisesOf(readPage("SPECIFICATION.md"));

test("every promise of SPECIFICATION.md names what proves it", () => {
  expect(promises.length).toBeGreaterThan(20);
  expect(promises.filter(({ proofs }) => proofs.length === 0).map(({ text }) => text)).toEqual([]);
});

test("every test and benchmark named there exists", () => {
  const missing = promises.flatMap(({ proofs }) => proofs.filter((proof) => !exists(proof)));
  expect(missing).toEqual([]);
});

test("what a benchmark found is said with the promise, unless it is kept", () => {
  const silent = promises.flatMap(({ text, proofs }) =>
    proofs
      .filter(({ file }) => file.startsWith("bench/"))
      .map(({ file }) => ({ file, found: foundBy(file) }))
      .filter(({ found }) => found.length > 0 && !found.some((verdict) => text.includes(`(${verdict}`)))
      .map(({ file, found }) => `${file}: ${found.join(", ")}`),
  );
  expect(silent).toEqual([]);
});

/** A test stands in its file, and is run; what a table of cases puts into its title is left out after `…`. */
function exists({ file, test: name }: Proof): boolean {
  const path = join(repositoryRoot, file);
  if (!existsSync(path)) return false;
  if (file.startsWith("bench/")) return true;
  const isIt = (title: string) => title === name || (name?.endsWith("…") && title.startsWith(name.slice(0, -1)));
  return titlesIn(path).some(isIt);
}

const titlesByFile = new Map<string, string[]>();
function titlesIn(path: string): string[] {
  const titles = titlesByFile.get(path) ?? testTitles(readFileSync(path, "utf8"));
  titlesByFile.set(path, titles);
  return titles;
}

/** What the last run of a benchmark found of what was not kept. */
function foundBy(bench: string): readonly string[] {
  const path = join(repositoryRoot, bench.replace("bench/", "bench/results/").replace(/\.ts$/, ".json"));
  if (!existsSync(path)) return ["not measured yet"];
  const { findings } = JSON.parse(readFileSync(path, "utf8")) as { findings: readonly { verdict: string }[] };
  return findings.map(({ verdict }) => verdict).filter((verdict) => verdict !== "kept");
}
