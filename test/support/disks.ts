import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseQcow2Header } from "../../packages/daemon/src/storage/qcow2-header.ts";

/** A stopped instance's disk, written to and read as its guest would. */
export function diskOf(dataDir: string, instanceId: string, name = "root") {
  const path = join(dataDir, "instances", instanceId, "vm", `${name}.qcow2`);
  return {
    path,
    /** So many blocks of one byte. */
    write: (at: number, byte: number, blocks = 1) => writeAt(path, at, byte, blocks),
    read: (at: number) => readBlocks(path, at, 1)[0],
    /** The first blocks, each as `read` gives it. */
    readFirst: (count: number) => readBlocks(path, 0, count),
  };
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

function writeAt(path: string, at: number, byte: number, blocks: number): void {
  qemuIo(path, `write -P ${byte} ${(firstBlock + at) * blockBytes} ${blocks * blockBytes}`);
}

/** The byte that each of some whole blocks holds; undefined for one that holds more than one. */
function readBlocks(path: string, at: number, count: number): (number | undefined)[] {
  const text = qemuIo(path, `read -v ${(firstBlock + at) * blockBytes} ${count * blockBytes}`);
  const bytes = text.split("\n").flatMap((line) => {
    const [, hex] = /^[0-9a-f]{8}: {2}((?:[0-9a-f]{2} ?)+)/.exec(line) ?? [];
    return hex?.trim().split(" ") ?? [];
  });
  return Array.from({ length: count }, (_, index) => {
    const block = bytes.slice(index * blockBytes, (index + 1) * blockBytes);
    const isOne = block.length === blockBytes && block.every((byte) => byte === block[0]);
    return isOne ? Number.parseInt(block[0] ?? "", 16) : undefined;
  });
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

/** How many frozen files a disk stands on. */
export function standsOn(path: string): number {
  const below = parseQcow2Header(readFileSync(path).subarray(0, 65_536))?.backingPath;
  return below?.endsWith(".qcow2") ? 1 + standsOn(below) : 0;
}
