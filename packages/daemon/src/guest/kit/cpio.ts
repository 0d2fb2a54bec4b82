/** One entry of an initramfs. Everything belongs to root. */
export type CpioEntry =
  | { readonly type: "directory"; readonly path: string; readonly mode: number }
  | { readonly type: "file"; readonly path: string; readonly mode: number; readonly content: Uint8Array }
  | {
      readonly type: "device";
      readonly path: string;
      readonly mode: number;
      readonly major: number;
      readonly minor: number;
    };

const fileType = { directory: 0o040000, file: 0o100000, device: 0o020000 };
const noContent = new Uint8Array();

/**
 * Writes a "newc" archive (kernel Documentation/driver-api/early-userspace/buffer-format.rst). The same entries always give the same bytes,
 * and a device node needs no privilege here, which is why the archive is not made by a program from a folder.
 */
export function writeCpio(entries: readonly CpioEntry[]): Buffer {
  const parts: Uint8Array[] = [];
  entries.forEach((entry, index) => {
    const content = entry.type === "file" ? entry.content : noContent;
    const device = entry.type === "device" ? entry : { major: 0, minor: 0 };
    parts.push(...member(entry.path, index + 1, fileType[entry.type] | entry.mode, content, device));
  });
  parts.push(...member("TRAILER!!!", 0, 0, noContent, { major: 0, minor: 0 }));
  return Buffer.concat(parts);
}

function member(
  path: string,
  inode: number,
  mode: number,
  content: Uint8Array,
  device: { major: number; minor: number },
): Uint8Array[] {
  const name = Buffer.from(`${path}\0`);
  // inode mode uid gid links mtime size devmajor devminor rdevmajor rdevminor namesize check
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, device.major, device.minor, name.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`);
  return [header, name, padding(header.length + name.length), content, padding(content.length)];
}

function padding(length: number): Uint8Array {
  return new Uint8Array((4 - (length % 4)) % 4);
}
