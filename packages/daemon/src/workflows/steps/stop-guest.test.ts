import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../../../test/support/scratch.ts";
import { GuestHub } from "../../guest/hub.ts";
import { localHost } from "../../host/local.ts";
import type { StepContext } from "../../operations/workflow.ts";
import { InstanceFolders } from "../../storage/instance-folder.ts";
import { newImage, newInstance } from "../../store/contract.ts";
import { insertImage } from "../../store/images.ts";
import { insertInstance } from "../../store/instances.ts";
import { openStore } from "../../store/store.ts";
import type { Services } from "../services.ts";
import { stopGuest } from "./stop-guest.ts";

test("berthd's shutdown while the guest is being reached ends no step: the guest has yet to be asked", async () => {
  const scratch = await scratchDirectory("stop-guest");
  const store = await openStore({ kind: "sqlite", path: join(scratch, "berth.db") });
  const host = localHost();
  const folders = new InstanceFolders({ host, root: join(scratch, "instances"), range: null });
  const image = newImage();
  const instance = newInstance(image.id);
  await store.transaction(async (tx) => {
    await insertImage(tx, image);
    await insertInstance(tx, instance);
  });
  await folders.create(instance.id);
  const guests = new GuestHub();
  const shutdown = new AbortController();
  const driver = {
    abilities: { channel: true },
    find: async () => ({ version: 1 }),
    inspect: async () => ({ exists: true, power: "running", reason: "", startedAt: null }),
    // It is being reached when berthd is told to end, and is never reached.
    openPort: () => {
      queueMicrotask(() => shutdown.abort(new Error("berthd is stopping")));
      return new Promise<never>(() => undefined);
    },
  };
  const services = { store, host, folders, guests, driver: () => driver, ownerOf: () => ({}) } as unknown as Services;
  const { id, name } = instance;
  const context = { operation: { target: { kind: "instance", id, name } }, signal: shutdown.signal };
  const asked = stopGuest(services).run(context as unknown as StepContext);
  await expect(asked).rejects.toThrow("berthd is stopping");
  guests.close();
  await store.close();
});
