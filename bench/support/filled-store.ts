import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Instance } from "@berth/api";
import { newId } from "../../packages/daemon/src/core/ids.ts";
import { insertInstance } from "../../packages/daemon/src/store/instances.ts";
import { openStore } from "../../packages/daemon/src/store/store.ts";

/** Writes so many copies of an instance, each with an id and name of its own, into the store of a berthd that does not run. */
export async function addCopies(dataDir: string, pattern: Instance, count: number): Promise<void> {
  mkdirSync(dataDir, { recursive: true });
  const store = await openStore({ kind: "sqlite", path: join(dataDir, "berth.db") });
  try {
    for (let done = 0; done < count; done += 500) {
      await store.transaction(async (tx) => {
        for (let index = done; index < Math.min(done + 500, count); index++) {
          const name = `copy-${String(index).padStart(5, "0")}`;
          await insertInstance(tx, { ...pattern, id: newId("instance"), name, layers: null, memory: null });
        }
      });
    }
  } finally {
    await store.close();
  }
}
