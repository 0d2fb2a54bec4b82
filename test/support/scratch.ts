import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { inject } from "vitest";

const made = new Set<string>();

/**
 * Makes an empty folder for the test file that asks, removed when that file is done; when the run is killed, the next one removes it. `name` is for people who
 * look there and should be short: the path stays below 40 bytes for the sake of unix sockets. Anyone may pass through it (0711), so that programs run as another user
 * reach what is meant for them.
 */
export async function scratchDirectory(name: string): Promise<string> {
  const folder = mkdtempSync(join(inject("runFolder"), `${name}-`));
  chmodSync(folder, 0o711);
  made.add(folder);
  return folder;
}

/** Those the test file has made so far. */
export function scratchFolders(): readonly string[] {
  return [...made];
}

/** Removes the test file's folders; `remove-scratch.ts` does it after the file's own clean-up. */
export function removeScratchDirectories(): void {
  for (const folder of made) rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  made.clear();
}
