import { link, mkdir, readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";

/**
 * Unpacked layers kept for the next image that shares them: `<data>/layers/<diff id>.tar`. Nothing waits until they are on the disk, so a node that loses its power may have any
 * bytes of them: whoever takes one checks it against its name.
 * Bounded: those unused for longest go first. Files come and go by hard links, so one that is in use elsewhere is never half there.
 */
export interface LayerCache {
  /** Puts what is kept of a layer, if anything, at `target`. That is the kept file itself: remove it, never write to it. */
  take(diffId: string, target: string): Promise<void>;
  /** Keeps a file in place of what was kept, and makes room. */
  keep(diffId: string, source: string): Promise<void>;
}

/** A cache in that folder, which is made when it keeps its first file. It is held to `maxBytes` after each `keep`, so it has more for the moment before. */
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
      } catch (error) {
        if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
      }
    },
    async keep(diffId, source) {
      await mkdir(directory, { recursive: true });
      await rm(pathOf(diffId), { force: true });
      // Another image that has just kept the same layer has checked it too.
      await link(source, pathOf(diffId)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "EEXIST") throw error;
      });
      await makeRoom();
    },
  };
}
