import { execFileSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";

/** A stopped instance's disk, written to and read as its guest would. */
export function diskOf(dataDir: string, instanceId: string, name = "root") {
  const path = join(dataDir, "instances", instanceId, "vm", `${name}.qcow2`);
  return { path, write: (at: number, byte: number) => writeAt(path, at, byte), read: (at: number) => readAt(path, at) };
}

const blockBytes = 4096;
/** Past all that an image of a test has. */
const firstBlock = 100_000;

/** As the user whose disk it is: whatever stands below must be within that user's reach. */
function qemuIo(path: string, command: string): string {
  const { uid, gid } = statSync(path);
  const user = process.getuid?.() === 0 ? { uid, gid } : {};
  return execFileSync("qemu-io", ["-f", "qcow2", "-c", command, path], { encoding: "utf8", ...user });
}

function writeAt(path: string, at: number, byte: number): void {
  qemuIo(path, `write -P ${byte} ${(firstBlock + at) * blockBytes} ${blockBytes}`);
}

/** The byte that a whole block holds; undefined when it holds more than one. */
function readAt(path: string, at: number): number | undefined {
  const lines = qemuIo(path, `read -v ${(firstBlock + at) * blockBytes} ${blockBytes}`).split("\n");
  const bytes = lines.flatMap(
    (line) => /^[0-9a-f]{8}: {2}((?:[0-9a-f]{2} ?)+)/.exec(line)?.[1]?.trim().split(" ") ?? [],
  );
  const [first] = bytes;
  return bytes.length === blockBytes && bytes.every((byte) => byte === first)
    ? Number.parseInt(first ?? "", 16)
    : undefined;
}

/** The files in the folders of snapshots. */
export function frozenFiles(dataDir: string): string[] {
  const root = join(dataDir, "snapshots");
  return readdirSync(root).flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith(".qcow2"))
      .map((name) => join(root, folder, name)),
  );
}
