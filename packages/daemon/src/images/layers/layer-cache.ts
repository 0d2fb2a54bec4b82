import { link, mkdir, readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";

/**
 * Unpacked layers kept for the next image that shares them: `<data>/layers/<diff id>.tar`. What is kept was verified when it was unpacked.
 * Bounded: those unused for longest go first. Files come and go by hard links, so one that is in use elsewhere is never half there.
 */
export interface LayerCache {
  /** Puts the unpacked layer at `target`; false when it is not kept. */
  take(diffId: string, target: string): Promise<boolean>;
  /** Keeps a file, and makes room. */
  keep(diffId: string, source: string): Promise<void>;
}

export function createLayerCache(directory: string, maxBytes: number): LayerCache {
  const pathOf = (diffId: string) => join(directory, `${diffId.slice("sha256:".length)}.tar`);

  async function makeRoom(): Promise<void> {
    const files = [];
    for (const name of await readdir(directory)) {
      const path = join(directory, name);
      const found = await stat(path).catch(() => undefined);
      if (found) files.push({ path, size: found.size, usedAt: found.mtimeMs });
    }
    files.sort((a, b) => b.usedAt - a.usedAt);
    let kept = 0;
    for (const { path, size } of files) {
      kept += size;
      if (kept > maxBytes) await rm(path, { force: true });
    }
  }

  return {
    async take(diffId, target) {
      try {
        await link(pathOf(diffId), target);
        const now = new Date();
        await utimes(target, now, now);
        return true;
      } catch (error) {
        if (error instanceof Error && "code" in error && error.code === "ENOENT") return false;
        throw error;
      }
    },
    async keep(diffId, source) {
      await mkdir(directory, { recursive: true });
      await link(source, pathOf(diffId)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
      });
      await makeRoom();
    },
  };
}
