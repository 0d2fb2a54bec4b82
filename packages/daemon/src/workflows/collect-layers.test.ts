import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { newId } from "../core/ids.ts";
import { localHost } from "../host/local.ts";
import { InstanceFolders } from "../storage/instance-folder.ts";
import { newFolderName, SnapshotFolders } from "../storage/snapshot-folders.ts";
import { newImage, newInstance } from "../store/contract.ts";
import { insertImage } from "../store/images.ts";
import { deleteSnapshot, insertSnapshot } from "../store/snapshots.ts";
import { openStore } from "../store/store.ts";
import { collectLayers } from "./collect-layers.ts";
import type { Services } from "./services.ts";

/** What happens at each of these moments of a look for what is not needed any more. */
test.each(["list", "survey"] as const)("what is taken or goes while a look is at its %s stays", async (moment) => {
  const scratch = await scratchDirectory("collect");
  const host = localHost();
  const store = await openStore({ kind: "sqlite", path: join(scratch, "berth.db") });
  const root = join(scratch, "snapshots");
  const nodeId = newId("node");
  const image = newImage();
  const { spec } = newInstance(image.id);
  await store.transaction((tx) => insertImage(tx, image));

  let meanwhile = async () => undefined as undefined;
  class Interrupted extends SnapshotFolders {
    override async list() {
      const folders = await super.list();
      if (moment === "list") await meanwhile();
      return folders;
    }
    override async survey() {
      if (moment === "survey") await meanwhile();
      return super.survey();
    }
  }
  const folders = new InstanceFolders({ host, root: join(scratch, "instances"), range: null });
  const snapshotFolders = new Interrupted({ host, root, user: null });
  const services = { store, host, nodeId, folders, snapshotFolders } as unknown as Services;

  const take = async (withFile: boolean) => {
    const folder = newFolderName();
    const id = newId("snapshot");
    const of = { instanceId: newId("instance"), instanceName: "web", imageId: image.id, image: "busybox" };
    const how = {
      automatic: false,
      kind: "disk",
      consistency: "stopped",
      disks: [] as { name: string; sizeBytes: number }[],
    } as const;
    const where = { location: "node1/fake", nodeId, spec, folder };
    await store.transaction((tx) => insertSnapshot(tx, { id, project: "default", name: id, ...of, ...how, ...where }));
    await mkdir(join(root, folder), { recursive: true });
    if (withFile) await writeFile(join(root, folder, "root.qcow2"), "frozen");
    return { id, folder };
  };
  const [stale, going] = [await take(true), await take(true)];
  await store.transaction((tx) => deleteSnapshot(tx, stale.id));
  let made: string[] = [];
  meanwhile = async () => {
    meanwhile = async () => undefined;
    made = [(await take(true)).folder, (await take(false)).folder];
    await store.transaction((tx) => deleteSnapshot(tx, going.id));
    return undefined;
  };

  await collectLayers(services);
  // Who was still there when instances were looked at may have been launched from since.
  const left = moment === "list" ? [] : [going.folder];
  expect((await readdir(root)).sort()).toEqual([...left, ...made].sort());
  for (const folder of [...left, made[0] ?? ""]) expect(await readdir(join(root, folder))).toEqual(["root.qcow2"]);
  await collectLayers(services);
  expect((await readdir(root)).sort()).toEqual(made.sort());
  await store.close();
});
