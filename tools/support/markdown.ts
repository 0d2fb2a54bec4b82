import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { repositoryRoot } from "./parts.ts";

/** The pages a reader of the repository finds, by their path from its root. */
export function pages(): string[] {
  const at = (folder: string) =>
    readdirSync(join(repositoryRoot, folder), { recursive: folder !== "", encoding: "utf8" })
      .filter((name) => name.endsWith(".md"))
      .map((name) => join(folder, name));
  return [...at(""), ...at("docs")].sort();
}

export function readPage(path: string): string {
  return readFileSync(join(repositoryRoot, path), "utf8");
}

/** Everything but what stands between fences. */
function prose(page: string): string {
  return page.replace(/^```[\s\S]*?^```$/gm, "");
}

/** The targets of a page's links, as written. */
export function linksOf(page: string): string[] {
  return [...prose(page).matchAll(/\[[^\]]*\]\(([^)\s]+)\)/g)].map(([, target]) => target ?? "");
}

/** The anchors GitHub makes of a page's headings. */
export function anchorsOf(page: string): string[] {
  return [...prose(page).matchAll(/^#{1,6} +(.+)$/gm)].map(([, heading]) =>
    (heading ?? "")
      .toLowerCase()
      .replace(/[^\p{Letter}\p{Number}\s_-]/gu, "")
      .trim()
      .replace(/\s/g, "-"),
  );
}

/** One line of SPECIFICATION.md. */
export interface Promised {
  readonly text: string;
  readonly proofs: readonly Proof[];
}

/** A test by its file and name, or a benchmark by its file. */
export interface Proof {
  readonly file: string;
  readonly test: string | undefined;
}

/** Each list item is a promise; what proves it stands in it as `path/of/the.test.ts` › name, one to a line. */
export function promisesOf(page: string): Promised[] {
  return prose(page)
    .split(/^(?=- )/m)
    .filter((item) => item.startsWith("- "))
    .map((item) => item.split(/\n\s*\n/)[0] ?? "")
    .map((item) => {
      const [text = "", ...lines] = item.slice(2).split("\n");
      const proofs = lines.flatMap((line) => {
        const match = /^\s+`([^`]+)`(?: › (.+))?$/.exec(line);
        return match ? [{ file: match[1] ?? "", test: match[2] }] : [];
      });
      return { text, proofs };
    });
}
