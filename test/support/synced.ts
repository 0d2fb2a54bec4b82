import { readdirSync, readlinkSync, statSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { vi } from "vitest";

/**
 * What this process brings to the disk (fsync(2)) while something is done, in order: each file by the name it had just then, each folder with what it held, as `/path/: a b`. Only the
 * lack of that shows in a power loss, which no test can have.
 */
export async function syncedWhile(act: () => Promise<unknown>): Promise<readonly string[]> {
  const synced: string[] = [];
  const handle = await open("/dev/null");
  const kind = Object.getPrototypeOf(handle) as FileHandle;
  await handle.close();
  const sync = kind.sync;
  const spy = vi.spyOn(kind, "sync").mockImplementation(function (this: FileHandle) {
    const path = readlinkSync(`/proc/self/fd/${this.fd}`);
    synced.push(statSync(path).isDirectory() ? `${path}/: ${readdirSync(path).sort().join(" ")}` : path);
    return sync.call(this);
  });
  try {
    await act();
  } finally {
    spy.mockRestore();
  }
  return synced;
}
