import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { type Proof, promisesOf, readPage } from "../support/markdown.ts";
import { repositoryRoot } from "../support/parts.ts";

const promises = promisesOf(readPage("SPECIFICATION.md"));

test("every promise of SPECIFICATION.md names what proves it", () => {
  expect(promises.length).toBeGreaterThan(20);
  expect(promises.filter(({ proofs }) => proofs.length === 0).map(({ text }) => text)).toEqual([]);
});

test("every test and benchmark named there exists", () => {
  const missing = promises.flatMap(({ proofs }) => proofs.filter((proof) => !exists(proof)));
  expect(missing).toEqual([]);
});

/** A test's name stands in its file as written; what a table of cases puts into it is left out after `…`. */
function exists({ file, test: name }: Proof): boolean {
  const path = join(repositoryRoot, file);
  if (!existsSync(path)) return false;
  if (file.startsWith("bench/")) return true;
  return name !== undefined && readFileSync(path, "utf8").includes(name.replace(/…$/, ""));
}
