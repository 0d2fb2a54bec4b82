/** What is known of one file: `-rw-r--r-- 0/0 1234 1600000000 -> target`, the same in every listing. Sizes are those of files only. */
export type Tree = ReadonlyMap<string, string>;

/** How GNU tar is asked for a listing that `treeFromTar` reads. */
export const tarListing = ["--list", "--verbose", "--numeric-owner", "--full-time", "--utc", "--quoting-style=literal"];

/** The files of a tar archive by GNU tar's own listing. Device nodes are not among them: images lose those. */
export function treeFromTar(listing: string): Tree {
  const tree = new Map<string, string>();
  for (const line of listing.split("\n")) {
    const match = /^(\S{10}) (\d+\/\d+) +(\S+) (\S+ \S+) \.(.*)$/.exec(line);
    if (!match) continue;
    const [, mode = "", owner = "", size = "", time = "", names = ""] = match;
    if (/^[bc]/.test(mode)) continue;
    if (mode.startsWith("h")) {
      const [name = "", target = ""] = names.split(" link to .");
      tree.set(name, tree.get(target) ?? "missing");
      continue;
    }
    const [name = "", link] = names.split(" -> ");
    const path = name.replace(/\/$/, "") || "/";
    tree.set(path, describe(mode, owner, size, Date.parse(`${time.replace(" ", "T")}Z`) / 1000, link));
  }
  return tree;
}

/** How find(1) is asked for what `treeFromFind` reads. */
export const findListing = ["find", "/", "-xdev", "-printf", "%M\\t%U/%G\\t%s\\t%T@\\t%p\\t%l\\n"];

/** The files find(1) sees in a running guest, other file systems left out. */
export function treeFromFind(listing: string): Tree {
  const tree = new Map<string, string>();
  for (const line of listing.split("\n").filter(Boolean)) {
    const [mode = "", owner = "", size = "", time = "", path = "", link] = line.split("\t");
    tree.set(path, describe(mode, owner, size, Math.floor(Number(time)), link || undefined));
  }
  return tree;
}

function describe(mode: string, owner: string, size: string, seconds: number, link: string | undefined): string {
  const words = [mode, owner, mode.startsWith("-") ? size : "", seconds, link === undefined ? "" : `-> ${link}`];
  return words.filter((word) => word !== "").join(" ");
}
