import { expect, it } from "vitest";
import type { DirectoryNode, SymlinkNode, TreeNode } from "../layers/tree.ts";
import { withMountPoints } from "./mount-points.ts";

const attributes = { mode: 0o755, uid: 7, gid: 7, mtime: { seconds: 1, nanoseconds: 0 }, xattrs: new Map() };
const folder = (children: Record<string, TreeNode>): DirectoryNode => ({
  kind: "directory",
  ...attributes,
  children: new Map(Object.entries(children)),
});
const link = (target: string): SymlinkNode => ({ kind: "symlink", ...attributes, target });
const hosts: TreeNode = { kind: "file", ...attributes, content: { layer: 3, offset: 512, size: 9 } };

/** Every path with its kind. */
function pathsOf(directory: DirectoryNode, prefix = ""): string[] {
  return [...directory.children].flatMap(([name, node]) => [
    `${prefix}/${name} ${node.kind}`,
    ...(node.kind === "directory" ? pathsOf(node, `${prefix}/${name}`) : []),
  ]);
}

it("an empty image gets all that is mounted over, each once", () => {
  expect(pathsOf(withMountPoints(folder({})))).toEqual([
    "/proc directory",
    "/sys directory",
    "/dev directory",
    "/run directory",
    "/run/berth directory",
    "/etc directory",
    "/etc/hosts file",
    "/etc/hostname file",
    "/etc/machine-id file",
    "/etc/resolv.conf file",
  ]);
});

it("each is a node of its own: one node in two places would be one file with two names", () => {
  const nodes = (directory: DirectoryNode): TreeNode[] =>
    [...directory.children.values()].flatMap((node) => [node, ...(node.kind === "directory" ? nodes(node) : [])]);
  const made = nodes(withMountPoints(folder({})));
  expect(new Set(made).size).toBe(made.length);
});

it("what the image has stays as it is, and nothing is made behind its links", () => {
  const etc = folder({ hosts, "resolv.conf": link("../run/resolver") });
  const image = folder({ dev: link("/devices"), etc, run: link("/var/run"), proc: folder({ own: hosts }) });
  const made = withMountPoints(image);
  expect(pathsOf(made)).toEqual([
    "/dev symlink",
    "/etc directory",
    "/etc/hosts file",
    "/etc/resolv.conf symlink",
    "/etc/hostname file",
    "/etc/machine-id file",
    "/run symlink",
    "/proc directory",
    "/proc/own file",
    "/sys directory",
  ]);
  const madeEtc = made.children.get("etc") as DirectoryNode;
  expect(madeEtc).toMatchObject({ uid: 7, mtime: { seconds: 1 } });
  expect(madeEtc.children.get("hosts")).toBe(hosts);
});
