import type { ByteString, Time } from "../../core/tar.ts";

/** Where a file's bytes are: in which layer's archive, from where, how many. */
export interface Content {
  readonly layer: number;
  readonly offset: number;
  readonly size: number;
}

interface Attributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: Time;
  readonly xattrs: ReadonlyMap<ByteString, Buffer>;
}

export interface FileNode extends Attributes {
  readonly kind: "file";
  readonly content: Content;
}
export interface SymlinkNode extends Attributes {
  readonly kind: "symlink";
  readonly target: ByteString;
}
export interface FifoNode extends Attributes {
  readonly kind: "fifo";
}
/** The same leaf object in several directories is one file with several names. */
export type LeafNode = FileNode | SymlinkNode | FifoNode;

export interface DirectoryNode extends Attributes {
  readonly kind: "directory";
  readonly children: ReadonlyMap<ByteString, TreeNode>;
}

export type TreeNode = LeafNode | DirectoryNode;
