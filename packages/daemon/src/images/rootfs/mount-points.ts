import type { ByteString } from "../../core/tar.ts";
import type { DirectoryNode, FileNode, TreeNode } from "../layers/tree.ts";

/** What the guest's init mounts over in every image (guest/init/mounts.c). */
const folders = ["proc", "sys", "dev", "run/berth"];
const files = ["etc/hosts", "etc/hostname", "etc/machine-id", "etc/resolv.conf"];

const attributes = { uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, xattrs: new Map() } as const;
/** One object in two places would be one file with two names. */
const newFolder = (): DirectoryNode => ({ kind: "directory", mode: 0o755, ...attributes, children: new Map() });
const newFile = (): FileNode => ({
  kind: "file",
  mode: 0o644,
  ...attributes,
  content: { layer: 0, offset: 0, size: 0 },
});

/**
 * The image with what is mounted over in its guests, as docker's own lowest layer has it: init makes what is missing, but cannot while the disk is read-only. What the image has
 * stays, links too.
 */
export function withMountPoints(image: DirectoryNode): DirectoryNode {
  const withFolders = folders.reduce((root, path) => withPath(root, path.split("/"), newFolder()), image);
  return files.reduce((root, path) => withPath(root, path.split("/"), newFile()), withFolders);
}

function withPath(parent: DirectoryNode, [name = "", ...rest]: readonly ByteString[], leaf: TreeNode): DirectoryNode {
  const present = parent.children.get(name);
  if (present && (rest.length === 0 || present.kind !== "directory")) return parent;
  const child = rest.length === 0 ? leaf : withPath(present?.kind === "directory" ? present : newFolder(), rest, leaf);
  return { ...parent, children: new Map([...parent.children, [name, child]]) };
}
