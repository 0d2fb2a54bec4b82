import type { Host } from "../../host/host.ts";

/** What debugfs says of one file. */
export interface FileFacts {
  readonly inode: number;
  readonly type: string;
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly links: number;
  readonly blocks: number;
  /** Seconds in hex, a colon, and the extra field in hex. */
  readonly mtime: string;
  readonly target: string | undefined;
  readonly xattrs: Readonly<Record<string, string>>;
}

/** Reads files of an ext4 image without mounting it. */
export async function readBack(
  host: Host,
  image: string,
  paths: readonly string[],
): Promise<Record<string, FileFacts>> {
  const facts: Record<string, FileFacts> = {};
  for (const path of paths) {
    const { stdout } = await host.run("debugfs", ["-R", `stat "${path.replaceAll('"', '""')}"`, image]);
    const find = (pattern: RegExp) => pattern.exec(stdout)?.[1] ?? "";
    facts[path] = {
      inode: Number(find(/Inode: (\d+)/)),
      type: find(/Type: (\S+)/),
      mode: find(/Mode:\s+(\d+)/),
      uid: Number(find(/User:\s+(\d+)/)),
      gid: Number(find(/Group:\s+(\d+)/)),
      size: Number(find(/Size: (\d+)/)),
      links: Number(find(/Links: (\d+)/)),
      blocks: Number(find(/Blockcount: (\d+)/)),
      mtime: find(/mtime: 0x(\w+:\w+)/),
      target: /Fast link dest: "(.*)"/.exec(stdout)?.[1],
      xattrs: Object.fromEntries(
        [...stdout.matchAll(/^ {2}(\S+) \((\d+)\)(?: = (.*))?$/gm)].map(([, name = "", , value = ""]) => [
          name,
          value.trim(),
        ]),
      ),
    };
  }
  return facts;
}

/** e2fsck's verdict: rejects when there is anything to repair. */
export async function checkFileSystem(host: Host, image: string): Promise<void> {
  await host.run("e2fsck", ["-f", "-n", image]);
}
