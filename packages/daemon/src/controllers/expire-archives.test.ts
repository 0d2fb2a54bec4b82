import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { eventually } from "../../../../test/support/eventually.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import { insertArchive } from "../store/archives.ts";
import { openStore } from "../store/store.ts";
import { expireArchives } from "./expire-archives.ts";

test("an archive whose time is up is deleted once, and no other", async () => {
  const store = await openStore({ kind: "sqlite", path: join(await scratchDirectory("expire"), "berth.db") });
  const log = { warn: vi.fn(), error: vi.fn() };
  const nodeId = newId("node");
  const add = () => {
    const instance = { id: newId("instance"), name: "web" };
    const made = { id: newId("archive"), project: "default", nodeId, name: "web.berth", sizeBytes: 7, beginning: "" };
    return insertArchive(store.queries, {
      ...made,
      source: { type: "export", instance, snapshot: null, environment: true },
    });
  };
  const [old] = [await add(), await add()];
  await store.queries.updateTable("archive").set({ expires_at: 1 }).where("id", "=", old.id).execute();
  const operations = () => store.queries.selectFrom("operation").select(["type", "target_id", "node_id"]).execute();
  for (let time = 0; time < 2; time += 1) {
    const stop = new AbortController();
    const running = expireArchives(store, nodeId, log, stop.signal);
    await eventually(async () => expect(await operations()).toHaveLength(1));
    stop.abort();
    await running;
  }
  expect(await operations()).toEqual([{ type: "archive.delete", target_id: old.id, node_id: nodeId }]);
  expect(log.error).not.toHaveBeenCalled();
  await store.close();
});
