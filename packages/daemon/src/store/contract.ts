import { setTimeout as delay } from "node:timers/promises";
import { BerthError, type Event } from "@berth/api";
import { sql } from "kysely";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { beginChange, wishesOf } from "../core/change-instance.ts";
import { newId } from "../core/ids.ts";
import {
  deleteArchive,
  insertArchive,
  listArchives,
  listExpiredArchives,
  type NewArchive,
  readArchive,
  touchArchive,
} from "./archives.ts";
import { isForeignKeyViolation } from "./errors.ts";
import {
  appendEvent,
  findEventGap,
  followEvents,
  followEventsAndGaps,
  lastEventSeq,
  pruneEvents,
  readEvents,
} from "./events.ts";
import { pruneIdempotencyKeys, respondOnce } from "./idempotency.ts";
import {
  deleteImage,
  deleteImageReference,
  deleteUnusedImports,
  findImage,
  findImageByDigest,
  insertImage,
  listImages,
  listImageUsers,
  readImage,
  setImageReference,
  updateImage,
} from "./images.ts";
import {
  deleteInstance,
  findInstance,
  insertInstance,
  listInstances,
  lockInstance,
  type NewInstance,
  readHandle,
  readInstance,
  readOpenChanges,
  readRun,
  updateInstance,
} from "./instances.ts";
import { findNode, listNodes, saveNode } from "./nodes.ts";
import { wakeAfter } from "./pending.ts";
import {
  claimPoolMember,
  deletePool,
  doesAnyWait,
  findPool,
  findPoolWith,
  insertPool,
  insertPoolMember,
  listNodePools,
  listPoolMembers,
  listPools,
  movePoolMember,
  readPool,
  updatePool,
} from "./pools.ts";
import { countHeld, deleteProject, findProject, insertProject, listProjects, lockProject } from "./projects.ts";
import { holdToQuota, instanceQuotas, readQuota, writeLimits } from "./quotas.ts";
import { readSetting, writeSetting } from "./settings.ts";
import type { Store, Transaction } from "./store.ts";
import {
  countTemplateUse,
  deleteTemplate,
  failTemplate,
  findTemplate,
  insertTemplate,
  listTemplates,
  readTemplate,
  updateTemplate,
} from "./templates.ts";
import {
  deleteProjectTokens,
  findSystemToken,
  findToken,
  findTokenByHash,
  insertToken,
  isRevoked,
  listTokens,
  pruneTokens,
  revokeToken,
  tokenTopic,
  touchToken,
} from "./tokens.ts";

/** What every store must do; `open` opens the same store each time, as another daemon would. */
export function describeStore(name: string, open: () => Promise<Store>): void {
  describe(`a store on ${name}`, () => {
    let store: Store;
    let imageId: string;

    beforeAll(async () => {
      store = await open();
      imageId = (await insertImage(store.queries, newImage())).id;
    });
    afterAll(() => store?.close());

    const addInstance = (change: Partial<NewInstance> = {}) =>
      store.transaction((tx) => insertInstance(tx, newInstance(imageId, change)));

    test("finds an instance by id and by name, in its project only", async () => {
      const made = await addInstance({ labels: { team: "a" } });
      expect(await findInstance(store.queries, "default", made.id)).toEqual(made);
      expect(await findInstance(store.queries, "default", made.name)).toEqual(made);
      expect(await findInstance(store.queries, "other", made.id)).toBeUndefined();
      expect(await readInstance(store.queries, newId("instance"))).toBeUndefined();
    });

    test("refuses a name in use, and frees it with the instance", async () => {
      const made = await addInstance();
      await expect(addInstance({ name: made.name })).rejects.toMatchObject({ code: "name_taken" });
      await store.transaction((tx) => deleteInstance(tx, made.id));
      await store.transaction((tx) => deleteInstance(tx, made.id));
      expect(await addInstance({ name: made.name })).toMatchObject({ name: made.name });
    });

    test("raises the generation with the spec and the labels, and with nothing else", async () => {
      const made = await addInstance();
      const change = (changes: Parameters<typeof updateInstance>[2], expected?: number) =>
        store.transaction((tx) => updateInstance(tx, made.id, changes, expected));
      expect((await change({ status: { ...made.status, phase: "running" } })).generation).toBe(1);
      expect((await change({ handle: { version: 1, pid: 7 } })).generation).toBe(1);
      expect((await change({ spec: { ...made.spec, cpus: 2 } }, 1)).generation).toBe(2);
      expect((await change({ labels: { a: "b" } }, 2)).labels).toEqual({ a: "b" });
      await expect(change({ labels: {} }, 2)).rejects.toMatchObject({ code: "precondition_failed" });
      expect(await readHandle(store.queries, made.id)).toEqual({ version: 1, pid: 7 });
      expect((await change({ handle: null })).status.phase).toBe("running");
      expect(await readHandle(store.queries, made.id)).toBeNull();
      const gone = store.transaction((tx) => updateInstance(tx, newId("instance"), { labels: {} }));
      await expect(gone).rejects.toMatchObject({ code: "not_found" });
    });

    test("tells what the present run does not have yet, as long as there is one", async () => {
      const made = await addInstance();
      const change = async (changes: Parameters<typeof updateInstance>[2]) =>
        (await store.transaction((tx) => updateInstance(tx, made.id, changes))).status.pending;
      const { ports, ...others } = made.spec;
      const run = { ...others, name: made.name, ports };
      expect(await change({ run, status: { ...made.status, phase: "running" } })).toEqual([]);
      expect(await change({ spec: { ...made.spec, cpus: 2, env: { A: "c" } } })).toEqual(["cpus", "env"]);
      expect(await readRun(store.queries, made.id)).toMatchObject({ name: made.name, cpus: 1, env: { A: "b" } });
      expect(await change({ status: { ...made.status, phase: "stopped" } })).toEqual([]);
      expect(
        await change({ status: { ...made.status, phase: "running", pending: ["stale"] }, spec: made.spec }),
      ).toEqual([]);
    });

    test("remembers the changes that have not ended", async () => {
      const made = await addInstance();
      expect(await readOpenChanges(store.queries, made.id)).toBeNull();
      const change = { operationId: newId("operation"), asked: { cpus: 2, entrypoint: null, env: { A: null } } };
      const { open: openChanges } = beginChange(wishesOf(made), null, change);
      await store.transaction((tx) => updateInstance(tx, made.id, { openChanges }));
      expect(await readOpenChanges(store.queries, made.id)).toEqual(openChanges);
      await store.transaction((tx) => updateInstance(tx, made.id, { openChanges: null }));
      expect(await readOpenChanges(store.queries, made.id)).toBeNull();
    });

    test("changes that follow from what was read come one after another", async () => {
      const made = await addInstance();
      const count = () =>
        store.transaction(async (tx) => {
          const status = (await lockInstance(tx, made.id))?.status ?? made.status;
          const restarts = { ...status.restarts, count: status.restarts.count + 1 };
          await updateInstance(tx, made.id, { status: { ...status, restarts } });
        });
      await Promise.all(Array.from({ length: 12 }, count));
      expect((await readInstance(store.queries, made.id))?.status.restarts.count).toBe(12);
    });

    test("gives an instance another name, unless it is in use", async () => {
      const [one, other] = [await addInstance(), await addInstance()];
      const rename = (name: string) => store.transaction((tx) => updateInstance(tx, one.id, { name }));
      await expect(rename(other.name)).rejects.toMatchObject({ code: "name_taken" });
      expect(await rename(`${one.name}-2`)).toMatchObject({ name: `${one.name}-2`, generation: 2 });
      expect(await findInstance(store.queries, "default", one.name)).toBeUndefined();
      expect(await rename(one.name)).toMatchObject({ id: one.id, name: one.name });
    });

    test("lists by label and phase, newest first, each once however the pages are cut", async () => {
      const node = newId("node");
      for (let index = 0; index < 11; index++) {
        const made = newInstance(imageId, { nodeId: node });
        await addInstance({ ...made, labels: { set: node, half: index % 2 ? "odd" : "even" } });
      }
      const named = async (options: Partial<Parameters<typeof listInstances>[1]>) => {
        const ids: string[] = [];
        let cursor: string | null = null;
        do {
          const page: Awaited<ReturnType<typeof listInstances>> = await listInstances(store.queries, {
            project: "default",
            limit: 3,
            ...options,
            ...(cursor === null ? {} : { cursor }),
          });
          ids.push(...page.rows.map((row) => row.id));
          cursor = page.nextCursor;
        } while (cursor !== null);
        return ids;
      };
      const all = await named({ nodeId: node });
      expect(new Set(all).size).toBe(11);
      expect(await named({ labels: [{ key: "set", value: node }] })).toEqual(all);
      expect(
        await named({
          labels: [
            { key: "half", value: "odd" },
            { key: "set", value: node },
          ],
        }),
      ).toHaveLength(5);
      expect(await named({ labels: [{ key: "half" }], nodeId: node, phase: "pending" })).toEqual(all);
      expect(await named({ labels: [{ key: "half" }], phase: "failed" })).toEqual([]);
      const wrong = listInstances(store.queries, { cursor: "nonsense", limit: 1 });
      await expect(wrong).rejects.toMatchObject({ code: "invalid_request" });
    });

    test("a template is one of its project, location and shape; its uses and failures are counted", async () => {
      const shape = {
        contentDigest: `sha256:${newId("image")}`,
        cpus: 1,
        memoryMib: 512,
        disks: 1,
        interfaces: 1,
        build: "b",
        app: null,
      };
      const place = { project: "default", location: "n/fake", shape };
      const add = (id: string) => {
        const made = { ...place, id, nodeId: "n-1", image: "nginx", operationId: null };
        return store.transaction((tx) => insertTemplate(tx, made));
      };
      const made = await add(newId("template"));
      expect(made).toMatchObject({ ...shape, state: "building", sizeBytes: null, uses: 0, lastUsedAt: null });
      await expect(add(newId("template"))).rejects.toThrow();
      expect((await findTemplate(store.queries, place))?.template).toEqual(made);
      expect(await findTemplate(store.queries, { ...place, location: "n/qemu" })).toBeUndefined();
      expect(await findTemplate(store.queries, { ...place, shape: { ...shape, memoryMib: 513 } })).toBeUndefined();
      for (let time = 0; time < 2; time++) await store.transaction((tx) => failTemplate(tx, made.id, "no"));
      expect(await findTemplate(store.queries, place)).toMatchObject({
        template: { state: "failed", reason: "no" },
        history: { failures: 2 },
      });
      const ready = { state: "ready", reason: "", sizeBytes: 7, failures: 0 } as const;
      await store.transaction((tx) => updateTemplate(tx, made.id, ready));
      for (let time = 0; time < 3; time++) await store.transaction((tx) => countTemplateUse(tx, made.id));
      const used = await readTemplate(store.queries, made.id);
      expect(used).toMatchObject({ state: "ready", sizeBytes: 7, uses: 3, lastUsedAt: expect.any(String) });
      expect((await listTemplates(store.queries, { project: "default", nodeId: "n-1", limit: 5 })).rows).toEqual([
        used,
      ]);
      expect((await listTemplates(store.queries, { project: "other", limit: 5 })).rows).toEqual([]);
      await store.transaction((tx) => deleteTemplate(tx, made.id));
      expect(await readTemplate(store.queries, made.id)).toBeUndefined();
    });

    test("a pool has a name of its own; each of its machines is claimed once, the oldest first", async () => {
      const shape = {
        contentDigest: `sha256:${newId("image")}`,
        cpus: 1,
        memoryMib: 512,
        disks: 1,
        interfaces: 1,
        build: "b",
        app: null,
      };
      const place = { project: "default", location: "n/fake", shape };
      const nodeId = newId("node");
      const wanted = {
        ...place,
        nodeId,
        id: newId("pool"),
        name: `web-${nodeId.slice(2, 8)}`,
        image: "nginx",
        cpus: 1,
        memoryMib: 512,
        size: 3,
      };
      const pool = await store.transaction((tx) => insertPool(tx, wanted));
      const again = store.transaction((tx) => insertPool(tx, { ...wanted, id: newId("pool") }));
      await expect(again).rejects.toMatchObject({ code: "name_taken" });
      expect(await findPool(store.queries, "default", pool.name)).toEqual(pool);
      expect(await findPool(store.queries, "other", pool.id)).toBeUndefined();
      expect(await listNodePools(store.queries, nodeId)).toEqual([pool]);
      const ids = [1, 2, 3].map(() => newId("instance"));
      for (const id of ids) {
        await store.transaction((tx) => insertPoolMember(tx, { ...place, id, poolId: pool.id, nodeId }));
        await delay(2);
      }
      const claim = () => store.transaction((tx) => claimPoolMember(tx, place));
      expect(await claim()).toBeUndefined();
      for (const id of ids) await store.transaction((tx) => movePoolMember(tx, id, "making", "ready"));
      expect(await findPoolWith(store.queries, place)).toBe(pool.name);
      expect(await doesAnyWait(store.queries, "default", place.location)).toBe(true);
      expect(await doesAnyWait(store.queries, "default", "n/elsewhere")).toBe(false);
      const elsewhere = { ...place, shape: { ...shape, cpus: 2 } };
      expect(await store.transaction((tx) => claimPoolMember(tx, elsewhere))).toBeUndefined();
      expect(await claim()).toMatchObject({ id: ids[0], pool: { name: pool.name, uses: 1 } });
      const claimed = await Promise.all([claim(), claim(), claim()]);
      expect(claimed.map((one) => one?.id).sort()).toEqual([ids[1], ids[2], undefined].sort());
      expect(await store.transaction((tx) => movePoolMember(tx, ids[1] ?? "", "ready", "leaving"))).toBe(false);
      expect(await listPoolMembers(store.queries, pool.id)).toEqual([]);
      const changed = await store.transaction((tx) => updatePool(tx, pool.id, { size: 1, failures: 1, reason: "no" }));
      expect(changed).toMatchObject({ size: 1, uses: 3, failures: 1, failedAt: expect.any(Number), reason: "no" });
      expect((await store.transaction((tx) => updatePool(tx, pool.id, { failures: 0 }))).failedAt).toBeNull();
      expect((await listPools(store.queries, { project: "default", limit: 5 })).rows[0]?.id).toBe(pool.id);
      await store.transaction((tx) => deletePool(tx, pool.id));
      expect(await readPool(store.queries, pool.id)).toBeUndefined();
    });

    test("an image is found by its references, and stays while an instance is made from it", async () => {
      const { id } = await insertImage(store.queries, newImage());
      const reference = `docker.io/library/${id}:latest`;
      await setImageReference(store.queries, "default", reference, imageId);
      await setImageReference(store.queries, "default", reference, id);
      const changes = { state: "ready", contentDigest: `sha256:${id}`, sizeBytes: 7, operationId: null } as const;
      const ready = await updateImage(store.queries, id, changes);
      expect(ready).toMatchObject({ ...changes, references: [reference] });
      expect(await findImage(store.queries, "default", reference)).toEqual(ready);
      expect(await findImage(store.queries, "default", id)).toEqual(ready);
      expect(await findImageByDigest(store.queries, "default", `sha256:${id}`)).toEqual(ready);
      expect((await listImages(store.queries, { reference, limit: 5 })).rows).toEqual([ready]);
      const user = await addInstance({ imageId: id });
      expect(await listImageUsers(store.queries, id, 5)).toEqual([user.name]);
      await expect(store.transaction((tx) => deleteImage(tx, id))).rejects.toMatchObject({ code: "image_in_use" });
      await deleteImageReference(store.queries, "default", reference);
      expect((await readImage(store.queries, id))?.references).toEqual([]);
      await store.transaction((tx) => deleteInstance(tx, user.id));
      await store.transaction((tx) => deleteImage(tx, id));
      expect(await readImage(store.queries, id)).toBeUndefined();
    });

    test("an image that came with an import goes once nothing stands on it, and no other image does", async () => {
      const source = { type: "import", reference: "busybox", contentDigest: null } as const;
      const add = () => insertImage(store.queries, { ...newImage(), source, state: "ready" });
      const [used, unused, other] = [await add(), await add(), await add()];
      const plain = await insertImage(store.queries, newImage());
      const user = await addInstance({ imageId: used.id });
      await deleteUnusedImports(store.queries, unused.id);
      const left = async () => {
        const all = await Promise.all([used, unused, other, plain].map(({ id }) => readImage(store.queries, id)));
        return all.map((image) => image !== undefined);
      };
      expect(await left()).toEqual([true, false, true, true]);
      await deleteUnusedImports(store.queries);
      expect(await left()).toEqual([true, false, false, true]);
      await store.transaction((tx) => deleteInstance(tx, user.id));
      await deleteUnusedImports(store.queries);
      expect(await left()).toEqual([false, false, false, true]);
    });

    test("archives are listed newest first, learn their size, and are found when their time is up", async () => {
      const nodeId = newId("node");
      const project = "default";
      const instance = { id: newId("instance"), name: "web" };
      const add = (change: Partial<NewArchive> = {}) => {
        const made = { id: newId("archive"), project, nodeId, name: "web.berth", sizeBytes: null, beginning: null };
        return insertArchive(store.queries, {
          ...made,
          source: { type: "export", instance, snapshot: null, environment: true },
          ...change,
        });
      };
      const [one, other] = [await add(), await add()];
      expect(await readArchive(store.queries, one.id)).toEqual(one);
      const first = await listArchives(store.queries, { project, limit: 1 });
      const second = await listArchives(store.queries, { project, limit: 5, cursor: first.nextCursor ?? "" });
      const listed = [...first.rows, ...second.rows].filter((row) => row.nodeId === nodeId);
      expect(new Set(listed)).toEqual(new Set([one, other]));
      expect(await listExpiredArchives(store.queries, nodeId)).toEqual([]);
      await store.queries.updateTable("archive").set({ expires_at: 5 }).where("node_id", "=", nodeId).execute();
      await touchArchive(store.queries, one.id, { sizeBytes: 7, beginning: "b" });
      await touchArchive(store.queries, one.id);
      const touched = await readArchive(store.queries, one.id);
      expect(touched).toMatchObject({ sizeBytes: 7, beginning: "b" });
      expect(Date.parse(touched?.expiresAt ?? "")).toBeGreaterThanOrEqual(Date.parse(one.expiresAt));
      expect(await listExpiredArchives(store.queries, nodeId)).toMatchObject([{ id: other.id }]);
      await store.transaction((tx) => deleteArchive(tx, one.id));
      await store.transaction((tx) => deleteArchive(tx, one.id));
      expect(await readArchive(store.queries, one.id)).toBeUndefined();
    });

    test("keeps nodes and settings", async () => {
      const node = newNode();
      await saveNode(store.queries, node);
      await saveNode(store.queries, { ...node, cpus: 4 });
      expect(await findNode(store.queries, node.name)).toEqual({ ...node, cpus: 4 });
      expect(await listNodes(store.queries)).toHaveLength(1);

      await writeSetting(store.queries, "colour", { a: 1 });
      await writeSetting(store.queries, "colour", { a: 2 });
      expect(await readSetting(store.queries, "colour", z.object({ a: z.number() }))).toEqual({ a: 2 });
      await expect(readSetting(store.queries, "colour", z.string())).rejects.toThrow("setting colour");
      expect(await readSetting(store.queries, "none", z.string())).toBeUndefined();
    });

    test("a token is found by its hash until it expires or is revoked, and by its name in its project", async () => {
      const rights = { role: "admin", scopes: null, prefix: "berth_Ab12" } as const;
      const add = (name: string, project: string | null, expiresAt: number | null = null) =>
        store.transaction((tx) => {
          const id = newId("token");
          return insertToken(tx, { id, name, hash: id, project, expiresAt, ...rights });
        });
      const token = await add("ops", null);
      await touchToken(store.queries, token);
      const found = await findTokenByHash(store.queries, token.id);
      expect(found).toEqual({ ...token, lastUsedAt: expect.any(String) });
      // Noted once a minute.
      if (found) await touchToken(store.queries, found);
      expect(await findTokenByHash(store.queries, token.id)).toEqual(found);
      expect(await findTokenByHash(store.queries, (await add("old", null, 1)).id)).toBeUndefined();

      const mine = await add("ops", "default");
      await expect(add("ops", "default")).rejects.toMatchObject({ code: "name_taken" });
      expect(await findToken(store.queries, "default", "ops")).toEqual(mine);
      expect(await findToken(store.queries, "default", token.id)).toBeUndefined();
      expect(await findSystemToken(store.queries, "ops")).toEqual(found);
      await expect(findToken(store.queries, undefined, "ops")).rejects.toMatchObject({ code: "invalid_request" });
      const list = async (project?: string) =>
        (await listTokens(store.queries, { project, limit: 10 })).rows.map(({ id }) => id);
      expect(await list("default")).toEqual([mine.id]);
      expect(await list()).toEqual(expect.arrayContaining([mine.id, token.id]));

      const woken = Promise.withResolvers<void>();
      const stop = store.wake.onWake(tokenTopic, woken.resolve);
      await store.transaction((tx) => revokeToken(tx, mine.id));
      await woken.promise;
      stop();
      expect(await findTokenByHash(store.queries, mine.id)).toBeUndefined();
      expect(await isRevoked(store.queries, mine.id)).toBe(true);
      expect(await isRevoked(store.queries, token.id)).toBe(false);
      expect(await list("default")).toEqual([]);
      expect((await add("ops", "default")).name).toBe("ops");
      await pruneTokens(store.queries, Date.now());
      expect(await findSystemToken(store.queries, "old")).toBeUndefined();
    });

    test("many who write at once stay within a project's quota together", async () => {
      const project = `q${newId("project").slice(-8)}`;
      await store.transaction(async (tx) => {
        await insertProject(tx, { id: newId("project"), name: project });
        await writeLimits(tx, project, { instances: 5, memoryMib: 1_000_000 });
        await writeLimits(tx, project, { memoryMib: null });
      });
      const image = await insertImage(store.queries, { ...newImage(), project });
      const add = (held: boolean) =>
        store.transaction(async (tx) => {
          await insertInstance(tx, newInstance(image.id, { project }));
          if (held) await holdToQuota(tx, project, instanceQuotas);
        });
      const asked = await Promise.allSettled(Array.from({ length: 20 }, () => add(true)));
      expect(asked.filter(({ status }) => status === "fulfilled")).toHaveLength(5);
      for (const one of asked)
        if (one.status === "rejected") expect(one.reason).toMatchObject({ code: "quota_exceeded" });
      const { limits, used } = await readQuota(store.queries, project);
      expect(limits).toMatchObject({ instances: 5, memoryMib: null, cpus: null });
      expect(used).toMatchObject({ instances: 5, images: 1 });
      await store.transaction((tx) => holdToQuota(tx, project, ["cpus", "images"]));
      // Negative control.
      await add(false);
      expect((await readQuota(store.queries, project)).used.instances).toBe(6);
    });

    test("a project is removed with the records of it once it holds nothing", async () => {
      const name = `p${newId("project").slice(-8)}`;
      const add = () => store.transaction((tx) => insertProject(tx, { id: newId("project"), name }));
      const project = await add();
      await expect(add()).rejects.toMatchObject({ code: "name_taken" });
      expect(await findProject(store.queries, name)).toEqual(project);
      const names = [name, "default"];
      expect((await listProjects(store.queries, { names, limit: 1 })).rows).toEqual([project]);
      expect((await listProjects(store.queries, { names: [], limit: 1 })).rows).toEqual([]);
      const image = await insertImage(store.queries, { ...newImage(), project: name });
      const made = await addInstance({ project: name, imageId: image.id });
      expect(await countHeld(store.queries, name)).toEqual(
        new Map([
          ["instance", 1],
          ["image", 1],
        ]),
      );
      await expect(store.transaction((tx) => deleteProject(tx, name))).rejects.toThrow();
      await store.transaction((tx) => deleteInstance(tx, made.id));
      await store.transaction((tx) => deleteImage(tx, image.id));
      expect((await countHeld(store.queries, name)).size).toBe(0);
      await store.transaction(async (tx) => {
        await lockProject(tx, name);
        await deleteProjectTokens(tx, name);
        await deleteProject(tx, name);
      });
      expect(await findProject(store.queries, name)).toBeUndefined();
      const orphan = addInstance({ project: name });
      expect(isForeignKeyViolation(await orphan.catch((error: unknown) => error))).toBe(true);
    });

    test("a transaction is all or nothing, and says so when it is gone around", async () => {
      const name = newId("instance").replace("i-", "x");
      const failing = store.transaction(async (tx) => {
        await insertInstance(tx, newInstance(imageId, { name }));
        throw new BerthError("internal", "on purpose");
      });
      await expect(failing).rejects.toThrow("on purpose");
      expect(await findInstance(store.queries, "default", name)).toBeUndefined();
      const around = store.transaction(async () => findInstance(store.queries, "default", name));
      await expect(around).rejects.toThrow("use the transaction's own");
      await expect(store.transaction(() => store.transaction(async () => 1))).rejects.toThrow("inside a transaction");
    });

    test("what was read is read anew after each write, and shows nothing of an open transaction or one taken back", async () => {
      const { id, name } = await addInstance();
      const read = async () => (await findInstance(store.queries, "default", name))?.labels;
      expect(await read()).toEqual({});
      const open = Promise.withResolvers<void>();
      const written = Promise.withResolvers<void>();
      const failing = store.transaction(async (tx) => {
        await updateInstance(tx, id, { labels: { a: "1" } });
        expect((await readInstance(tx, id))?.labels).toEqual({ a: "1" });
        written.resolve();
        await open.promise;
        throw new BerthError("internal", "on purpose");
      });
      await written.promise;
      // On SQLite it waits for the transaction's end, on PostgreSQL it does not; neither sees what it wrote.
      const meanwhile = read();
      open.resolve();
      await expect(failing).rejects.toThrow("on purpose");
      expect(await meanwhile).toEqual({});
      expect(await read()).toEqual({});
      await store.transaction((tx) => updateInstance(tx, id, { labels: { b: "2" } }));
      expect(await read()).toEqual({ b: "2" });
      await store.queries.updateTable("instance").set({ labels: '{"c":"3"}' }).where("id", "=", id).execute();
      expect(await read()).toEqual({ c: "3" });
      await store.transaction((tx) => deleteInstance(tx, id));
      expect(await read()).toBeUndefined();
    });

    test("transactions in each other's way are run again", async () => {
      const touch = (tx: Transaction, key: string) => writeSetting(tx, key, 1);
      await Promise.all(["a", "b"].map((key) => writeSetting(store.queries, key, 0)));
      let runs = 0;
      const both = (first: string, second: string) =>
        store.transaction(async (tx) => {
          runs++;
          await touch(tx, first);
          // Long enough for the other to take its first row; on SQLite it cannot, there it has to wait.
          await delay(50);
          await touch(tx, second);
        });
      await Promise.all([both("a", "b"), both("b", "a")]);
      // On PostgreSQL one of the two is chosen to give way, at least once.
      if (store.dialect === "postgres") expect(runs).toBeGreaterThan(2);
      else expect(runs).toBe(2);
    });

    test("answers a repeated request with the same answer, made once", async () => {
      const key = { project: "default", tokenId: "t", key: newId("token"), requestHash: "h" };
      let made = 0;
      const ask = (requestHash = "h") =>
        store.transaction((tx) =>
          respondOnce(tx, { ...key, requestHash }, async () => {
            made++;
            await delay(5);
            return { status: 202, body: { made } };
          }),
        );
      const answers = await Promise.all(Array.from({ length: 8 }, () => ask()));
      expect(made).toBe(1);
      for (const answer of answers) expect(answer).toMatchObject({ status: 202, body: { made: 1 } });
      expect(answers.filter((answer) => !answer.replayed)).toHaveLength(1);
      await expect(ask("other")).rejects.toMatchObject({ code: "idempotency_mismatch" });
      await store.queries.updateTable("idempotency_key").set({ expires_at: 1 }).execute();
      expect(await ask("other")).toMatchObject({ replayed: false });
      await pruneIdempotencyKeys(store.queries);
      expect(await ask("other")).toMatchObject({ replayed: true });
    });

    test("wakes who waits on any daemon of the store, before it looks by itself", async () => {
      const other = store.dialect === "postgres" ? await open() : store;
      try {
        using subscription = other.wake.subscribe("bell");
        // The listening connection may not stand yet; a wake-up that nobody hears costs one look.
        for (let tries = 0; ; tries++) {
          const began = performance.now();
          const waiting = subscription.wait(new AbortController().signal);
          await store.transaction(async (tx) => wakeAfter(tx, "bell"));
          await waiting;
          if (performance.now() - began < 500) break;
          expect(tries).toBeLessThan(20);
        }
      } finally {
        if (other !== store) await other.close();
      }
    });

    test("events filter, page and are forgotten by number and age", async () => {
      const subject = newId("instance");
      await store.transaction(async (tx) => {
        for (const type of ["x.a", "x.b", "x.a"]) appendEvent(tx, newEvent(type, subject));
      });
      const read = (filter: object) => readEvents(store.queries, { after: 0, limit: 100, subject, ...filter });
      expect((await read({})).items.map((event) => event.type)).toEqual(["x.a", "x.b", "x.a"]);
      expect((await read({ type: "x.b" })).items).toHaveLength(1);
      expect((await read({ project: "other" })).items).toHaveLength(0);
      const { next } = await read({ limit: 2 });
      expect((await read({ after: next })).items).toHaveLength(1);
      await pruneEvents(store.queries, { keep: 2, maxAgeMs: 3_600_000 });
      expect((await read({})).items.map((event) => event.type)).toEqual(["x.b", "x.a"]);
      await store.queries.updateTable("event").set({ at: 1 }).execute();
      await pruneEvents(store.queries, { keep: 100, maxAgeMs: 3_600_000 });
      expect((await read({})).items).toEqual([]);
    });

    test("events that are forgotten leave no hole, and are told of to who follows from before them, or from other records", async () => {
      const begin = await lastEventSeq(store.queries);
      await store.transaction(async (tx) => {
        for (const name of ["a", "b", "c", "d"]) appendEvent(tx, newEvent("kept", name));
      });
      const [second, last] = [begin + 2, begin + 4];
      /** The first of what is read after that number. */
      const first = async (after: number, filter: object = {}) => {
        const leave = new AbortController();
        for await (const one of followEventsAndGaps(store, { after, ...filter }, leave.signal)) return one;
      };
      // A clock that was wrong for a while makes the third look old.
      await store.queries
        .updateTable("event")
        .set({ at: 1 })
        .where("seq", "=", begin + 3)
        .execute();
      await pruneEvents(store.queries, { keep: 3, maxAgeMs: 3_600_000 });
      const kept = await readEvents(store.queries, { after: begin, limit: 10 });
      expect(kept.items.map(({ seq }) => seq)).toEqual([second, second + 1, last]);

      expect(await findEventGap(store.queries, begin)).toEqual({ after: begin, next: begin + 1 });
      expect(await first(begin)).toEqual({ after: begin, next: begin + 1 });
      expect(await first(begin + 1)).toMatchObject({ seq: second });
      expect(await findEventGap(store.queries, last)).toBeNull();
      expect(await findEventGap(store.queries, last + 1000)).toEqual({ after: last + 1000, next: last });
      await pruneEvents(store.queries, { keep: 0, maxAgeMs: 3_600_000 });
      expect(await first(second)).toEqual({ after: second, next: last });
      expect(await findEventGap(store.queries, last)).toBeNull();

      // From other records: told, and what comes next is not missed.
      const leave = new AbortController();
      const foreign = followEventsAndGaps(store, { after: last + 1000, project: "default" }, leave.signal);
      expect((await foreign.next()).value).toEqual({ after: last + 1000, next: last });
      const next = foreign.next();
      await store.transaction(async (tx) => appendEvent(tx, newEvent("kept", "e")));
      expect((await next).value).toMatchObject({ seq: last + 1 });
      leave.abort();
    });

    test("8 writers, a reader that reconnects 200 times: no gap and no event twice", async () => {
      const start = await lastEventSeq(store.queries);
      const writers = 8;
      const perWriter = 60;
      const write = async (writer: number) => {
        for (let index = 0; index < perWriter; index++) {
          const work = store.transaction(async (tx) => {
            appendEvent(tx, newEvent("storm", `${writer}`));
            await sql`select 1`.execute(tx);
            // Some are rolled back after they had their say.
            if (index % 7 === 3) throw new Error("rolled back");
          });
          await work.catch((error: Error) => expect(error.message).toBe("rolled back"));
        }
      };
      const writing = Promise.all(Array.from({ length: writers }, (_, writer) => write(writer)));
      const lost = Array.from({ length: perWriter }, (_, index) => index).filter((index) => index % 7 === 3).length;
      const seen = await readReconnecting(store, start, writers * (perWriter - lost), 200);
      await writing;
      expect(seen.map((event) => event.seq)).toEqual(seen.map((_, index) => start + 1 + index));
      expect(await lastEventSeq(store.queries)).toBe(start + seen.length);
    });
  });
}

/** Reads that many events, breaking off and coming back by the last number seen, as a browser does. */
async function readReconnecting(store: Store, after: number, count: number, connections: number): Promise<Event[]> {
  const seen: Event[] = [];
  for (let connection = 0; seen.length < count; connection++) {
    const leave = new AbortController();
    const most = connection < connections ? Math.ceil(count / connections) : count;
    const last = seen.at(-1)?.seq ?? after;
    let here = 0;
    for await (const event of followEvents(store, { after: last }, leave.signal)) {
      seen.push(event);
      here += 1;
      if (here >= most || seen.length >= count) leave.abort();
    }
  }
  return seen;
}

function newEvent(type: string, id: string) {
  return {
    type,
    project: "default",
    subject: { kind: "instance", id, name: "x" },
    operationId: null,
    data: { a: [1] },
  };
}

/** An image to insert. */
export function newImage(): Parameters<typeof insertImage>[1] {
  return {
    id: newId("image"),
    project: "default",
    source: { type: "registry", reference: "busybox" },
    state: "building",
    reason: "",
    contentDigest: null,
    kind: "rootfs",
    os: "linux",
    architecture: "amd64",
    firmware: "kernel",
    sizeBytes: null,
    startConfig: null,
    operationId: null,
  };
}

/** An instance to insert; its name is free. */
export function newInstance(imageId: string, change: Partial<NewInstance> = {}): NewInstance {
  const id = newId("instance");
  return {
    id,
    project: "default",
    name: id.replace("i-", "x"),
    labels: {},
    imageId,
    image: "busybox",
    origin: null,
    layers: null,
    memory: null,
    location: "node1/qemu",
    nodeId: newId("node"),
    spec: {
      cpus: 1,
      memoryMib: 512,
      disks: [{ name: "root", sizeMib: 1024 }],
      interfaces: [{ name: "eth0", network: "user" }],
      ports: [{ hostAddress: "127.0.0.1", hostPort: 8080, guestPort: 80, protocol: "tcp" }],
      env: { A: "b" },
      entrypoint: null,
      command: ["sh"],
      tty: false,
      stopTimeoutMs: 10_000,
      restart: "no",
      power: "running",
      warm: "auto",
      autosuspend: null,
      snapshots: null,
      restartGeneration: 0,
    },
    status: {
      phase: "pending",
      ready: false,
      health: "unknown",
      reason: "",
      observedAt: new Date(0).toISOString(),
      exitCode: null,
      startedAt: null,
      memoryBytes: null,
      start: null,
      restartGeneration: null,
      ports: [],
      restarts: { count: 0, delayMs: 0, nextAt: null },
      snapshots: null,
      pending: [],
    },
    ...change,
  };
}

function newNode() {
  return {
    id: newId("node"),
    name: "node1",
    version: "0.1.0",
    architecture: "amd64",
    kernel: "6.1",
    cpus: 2,
    memoryMib: 1024,
    diskFreeMib: 1024,
    accelerator: null,
    locations: [],
    checks: [],
    startedAt: new Date(5).toISOString(),
  };
}
