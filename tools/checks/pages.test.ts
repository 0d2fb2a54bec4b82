import { existsSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { expect, test } from "vitest";
import { anchorsOf, linksOf, pages, readPage } from "../support/markdown.ts";
import { repositoryRoot } from "../support/parts.ts";

test.each(pages())("the links of %s lead somewhere", (page) => {
  const broken = linksOf(readPage(page)).filter((link) => !/^[a-z]+:/.test(link) && !leadsSomewhere(page, link));
  expect(broken).toEqual([]);
});

function leadsSomewhere(page: string, link: string): boolean {
  const [path = "", anchor] = link.split("#");
  const target = path === "" ? page : normalize(join(dirname(page), path));
  if (!existsSync(join(repositoryRoot, target))) return false;
  return anchor === undefined || anchorsOf(readPage(target)).includes(anchor);
}

test.each(["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SPECIFICATION.md", "CHANGELOG.md"])(
  "%s is written",
  (page) => {
    expect(readPage(page).length).toBeGreaterThan(300);
  },
);
