import { mkdirSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Client, CreateInstanceInput, Instance, Pool } from "@berth/api";
import { expect } from "vitest";
import { World } from "../../packages/daemon/src/drivers/fake/world.ts";
import { localFiles } from "../../packages/daemon/src/host/files.ts";
import { diskOf, frozenFiles } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";

/** How one fault point is reached, and what must be so in the end. */
export interface Scenario {
  /** Another point, at which the operation fails, so that what it did is undone. */
  readonly failsAt?: string;
  arrange(client: Client): Promise<void>;
  act(client: Client): Promise<unknown>;
  check(client: Client): Promise<void>;
  cleanUp(client: Client): Promise<void>;
}

/** What scenarios work with. */
export interface Surroundings {
  /** A reference that is already pulled. */
  readonly image: string;
  /** A folder with a Dockerfile. */
  readonly context: string;
  readonly dataDir: string;
}

const name = "victim";
/** The name of the snapshot that things are done to. */
const point = "point";
const instance = { instance: name };
const built = "localhost/built:latest";
const long = { wait: 60 } as const;

/** The scenario in which a point is passed: by its operation, its step, and whether the step is undone. */
export function scenarioOf(point: string, surroundings: Surroundings): Scenario {
  const [type = "", step = "", side] = point.split("/");
  const undo = side === "undo";
  const scenarios: Record<string, () => Scenario> = {
    "image.pull": () => (undo ? notMade(surroundings, pulling(surroundings)) : pulling(surroundings)),
    "image.build": () => (undo ? notMade(surroundings, building(surroundings)) : building(surroundings)),
    "image.promote": () => promoting(surroundings, undo),
    "image.delete": () => deletingImage(surroundings),
    "template.create": () => makingTemplate(surroundings, step, undo),
    "template.delete": () => deletingTemplate(surroundings),
    "pool-member.create": () => fillingPool(surroundings, step, undo),
    "pool-member.delete": () => shrinkingPool(surroundings),
    "pool.delete": () => deletingPool(surroundings),
    "instance.create": () => {
      if (step === "plan-disks") return launchingVolumes(surroundings);
      return step === "take-over" || step === "go-on"
        ? claiming(surroundings, undo)
        : creating(surroundings, step, undo);
    },
    "instance.change": () => changing(surroundings, step, undo),
    "instance.fork": () => forking(surroundings, undo),
    "instance.start": () =>
      isOfSleep(step) || step === "resume"
        ? resuming(surroundings, step, undo)
        : starting(surroundings, "start", step, undo),
    "instance.stop": () => (isOfSleep(step) ? losing(surroundings) : stopping(surroundings, step)),
    "instance.suspend": () => suspending(surroundings, step, undo),
    "instance.restart": () =>
      step === "drop-memory"
        ? restartingStale(surroundings)
        : isOfStop(step)
          ? restarting(surroundings, step)
          : starting(surroundings, "restart", step, undo),
    "instance.delete": () => (isOfSleep(step) ? deletingSleeper(surroundings) : deleting(surroundings, step, undo)),
    "instance.export": () => exporting(surroundings, undo),
    "snapshot.export": () => exportingSnapshot(surroundings, undo),
    "instance.import": () => importing(surroundings, step, undo),
    "archive.delete": () => deletingArchive(surroundings),
    "instance.restore": () => (isOfSleep(step) ? restoringSleeper(surroundings) : restoring(surroundings, step, undo)),
    "instance.rebuild": () =>
      isOfSleep(step) ? rebuildingSleeper(surroundings) : rebuilding(surroundings, step, undo),
    "snapshot.create": () => (undo ? notSnapshotted(surroundings) : snapshotting(surroundings, step)),
    "snapshot.verify": () => verifying(surroundings),
    "snapshot.delete": () => deletingSnapshot(surroundings, undo),
    "layers.merge": () => merging(surroundings),
  };
  const scenario = scenarios[type];
  if (!scenario) throw new Error(`There is no scenario for ${point}: write one.`);
  return scenario();
}

const isOfStop = (step: string) => step === "stop-guest" || step === "power-off" || step === "settle";

const isOfSleep = (step: string) => step === "drop-memory" || step === "give-back-ports";

function pulling({ image }: Surroundings): Scenario {
  return {
    arrange: async () => undefined,
    act: (client) => client.pullImage({ query: long, body: { reference: image, refresh: true } }),
    check: async (client) => expectReady(client, image),
    cleanUp: async () => undefined,
  };
}

function building({ context }: Surroundings): Scenario {
  return {
    arrange: async () => undefined,
    act: (client) => build(client, context),
    check: async (client) => expectReady(client, built),
    cleanUp: (client) => removeBuilt(client),
  };
}

/** An image that cannot be made, since there is no folder to put it in. */
function notMade({ dataDir, image }: Surroundings, made: Scenario): Scenario {
  const artifacts = join(dataDir, "artifacts");
  return {
    ...made,
    arrange: async () => {
      renameSync(artifacts, `${artifacts}.away`);
      writeFileSync(artifacts, "");
    },
    check: async (client) => {
      rmSync(artifacts);
      renameSync(`${artifacts}.away`, artifacts);
      await expectReady(client, image);
      expect(await imagesNamed(client, built)).toEqual([]);
    },
  };
}

function deletingImage({ context }: Surroundings): Scenario {
  return {
    arrange: (client) => build(client, context),
    act: (client) => removeBuilt(client),
    check: async (client) => expect((await imagesNamed(client, built)).length).toBe(0),
    cleanUp: async () => undefined,
  };
}

function creating(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  const labels: Record<string, string> = undo ? { "berth.fake/start-error": "internal" } : {};
  return {
    arrange: async () => prepareFor(step, surroundings),
    act: (client) => create(client, surroundings, { labels, ports: [{ guestPort: 80 }], ...beginningFor(step) }),
    check: async (client) => {
      if (undo) return expectGone(client);
      const made = await client.getInstance({ params: instance });
      expect(made.status).toMatchObject({ phase: "running", ready: true });
      expect(made.status.ports[0]?.hostPort).toBeGreaterThan(0);
    },
    cleanUp: remove,
  };
}

/** A launch of an image that is not here yet, and has volumes. */
function launchingVolumes(surroundings: Surroundings): Scenario {
  const image = surroundings.image.replace(/[^/]+$/, "volumes");
  return {
    arrange: async () => undefined,
    act: (client) => create(client, { ...surroundings, image }, {}),
    check: async (client) => {
      const { spec, status } = await client.getInstance({ params: instance });
      expect(spec.disks.map((disk) => disk.name)).toEqual(["root", "volumes"]);
      expect(status).toMatchObject({ phase: "running", ready: true });
    },
    cleanUp: async (client) => {
      await remove(client);
      for (const { id } of await imagesNamed(client, image))
        await client.deleteImage({ params: { image: id }, query: long });
    },
  };
}

/** A start, or a restart of what is off: with the artifact or the machine missing when that is the step. */
function starting(surroundings: Surroundings, verb: "start" | "restart", step: string, undo: boolean): Scenario {
  const labels: Record<string, string> = undo ? { "berth.fake/start-error": "internal" } : {};
  return {
    arrange: async (client) => {
      const made = await create(client, surroundings, { labels, start: false, ...beginningFor(step) });
      if (step === "create-machine") await forgetMachine(surroundings, made);
      // Its disks were copied from one, which is gone since.
      if (step === "request-template") await removeTemplates(client);
      prepareFor(step, surroundings);
    },
    act: (client) =>
      (verb === "start" ? client.startInstance : client.restartInstance)({ params: instance, query: long }),
    check: async (client) => {
      const { status } = await client.getInstance({ params: instance });
      if (undo) expect(status).toMatchObject({ phase: "failed", ready: false });
      else expect(status).toMatchObject({ phase: "running", ready: true });
    },
    cleanUp: remove,
  };
}

/** A launch that has the template made which it must begin from. When what was begun is to be undone, no template can be kept. */
function makingTemplate(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  const templates = join(surroundings.dataDir, "templates");
  return {
    arrange: async () => {
      prepareFor(step, surroundings);
      if (undo) {
        rmSync(templates, { recursive: true, force: true });
        writeFileSync(templates, "");
      }
    },
    act: (client) => create(client, surroundings, { warm: "require" }),
    check: async (client) => {
      const [template, ...others] = (await client.listTemplates()).items;
      expect(others).toEqual([]);
      if (undo) {
        rmSync(templates);
        expect(template).toMatchObject({ state: "failed", sizeBytes: null });
        return expectGone(client);
      }
      expect(template).toMatchObject({ state: "ready", uses: 1 });
      const { status } = await client.getInstance({ params: instance });
      expect(status).toMatchObject({ phase: "running", ready: true, start: { mode: "warm" } });
    },
    cleanUp: remove,
  };
}

function deletingTemplate(surroundings: Surroundings): Scenario {
  return {
    arrange: async (client) => {
      await create(client, surroundings, { warm: "require" });
    },
    act: removeTemplates,
    check: async (client) => expect((await client.listTemplates()).items).toEqual([]),
    cleanUp: remove,
  };
}

const pool = "spare";

async function makePool(client: Client, { image }: Surroundings, size: number): Promise<void> {
  await client.createPool({ body: { name: pool, image, size } });
  await untilPool(client, ({ ready }) => ready === size);
}

/** Resolves once the pool is as it should be, or is gone. */
async function untilPool(client: Client, fits: (pool: Pool) => boolean): Promise<void> {
  for (;;) {
    const found = (await client.listPools()).items.find(({ name: one }) => one === pool);
    if (!found || fits(found)) return;
    await delay(50);
  }
}

/** A machine is made for a pool. When what was begun is to be undone, its memory is another build's. */
function fillingPool(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  return {
    arrange: async (client) => {
      if (step === "request-template") return;
      await create(client, surroundings, { warm: "require" });
      if (undo) await damageTemplate(client, surroundings);
    },
    act: async (client) => {
      await client.createPool({ body: { name: pool, image: surroundings.image, size: 1 } });
      await untilPool(client, ({ ready }) => ready === 1);
    },
    check: async (client) => {
      if (undo) await untilPool(client, ({ reason }) => reason !== "");
      else await untilPool(client, ({ ready }) => ready === 1);
      const seen = await client.getPool({ params: { pool } });
      expect(seen).toMatchObject(undo ? { ready: 0, filling: 0 } : { ready: 1, filling: 0, reason: "" });
    },
    cleanUp: removeWithPools,
  };
}

function shrinkingPool(surroundings: Surroundings): Scenario {
  return {
    arrange: (client) => makePool(client, surroundings, 1),
    act: async (client) => {
      await client.changePool({ params: { pool }, body: { size: 0 } });
      await untilPool(client, () => false);
    },
    check: async (client) => {
      await untilPool(client, ({ ready }) => ready === 0);
      await settledOperations(client);
    },
    cleanUp: removeWithPools,
  };
}

function deletingPool(surroundings: Surroundings): Scenario {
  return {
    arrange: (client) => makePool(client, surroundings, 2),
    act: (client) => client.deletePool({ params: { pool }, query: long }),
    check: async (client) => expect((await client.listPools()).items).toEqual([]),
    cleanUp: removeWithPools,
  };
}

/** A launch that takes a machine from a pool; its guest cannot start when what was begun is to be undone. */
function claiming(surroundings: Surroundings, undo: boolean): Scenario {
  return {
    arrange: (client) => makePool(client, surroundings, 1),
    act: (client) => create(client, surroundings, undo ? { labels: { "berth.fake/start-error": "internal" } } : {}),
    check: async (client) => {
      await client.changePool({ params: { pool }, body: { size: 0 } });
      await untilPool(client, ({ ready, filling }) => ready + filling === 0);
      await settledOperations(client);
      if (undo) return expectGone(client);
      const { status } = await client.getInstance({ params: instance });
      expect(status).toMatchObject({ phase: "running", ready: true, start: { mode: "pool" } });
    },
    cleanUp: removeWithPools,
  };
}

async function settledOperations(client: Client): Promise<void> {
  for (const { id } of (await client.listOperations({ query: { unfinished: true } })).items)
    await client.waitOperation({ params: { operation: id }, query: { timeout: 20 } });
}

/** What was saved is cut short. */
async function damageTemplate(client: Client, { dataDir }: Surroundings): Promise<void> {
  for (const { id } of (await client.listTemplates()).items)
    truncateSync(join(dataDir, "templates", id, "memory/ram"), 1);
}

async function removeWithPools(client: Client): Promise<void> {
  for (const { id } of (await client.listPools()).items) await client.deletePool({ params: { pool: id }, query: long });
  await remove(client);
}

/** A guest that does not obey has its power cut. */
const deaf: CreateInstanceInput["labels"] = { "berth.fake/deaf": "true" };

function stopping(surroundings: Surroundings, step: string): Scenario {
  return {
    arrange: async (client) => {
      await create(client, surroundings, step === "power-off" ? { labels: deaf, stopTimeoutMs: 0 } : {});
    },
    act: (client) => client.stopInstance({ params: instance, query: long }),
    check: async (client) =>
      expect((await client.getInstance({ params: instance })).status).toMatchObject({ phase: "stopped", ready: false }),
    cleanUp: remove,
  };
}

function restarting(surroundings: Surroundings, step: string): Scenario {
  return {
    ...stopping(surroundings, step),
    act: (client) => client.restartInstance({ params: instance, query: long }),
    check: async (client) => {
      const { spec, status } = await client.getInstance({ params: instance });
      expect(spec.restartGeneration).toBeGreaterThan(0);
      const { restartGeneration } = spec;
      expect(status).toMatchObject({ phase: "running", ready: true, restartGeneration });
    },
  };
}

/** One that berthd stands in for on its ports while it sleeps. */
const sleeper: Partial<CreateInstanceInput> = { autosuspend: { idleSeconds: 3600 }, ports: [{ guestPort: 80 }] };

/** A suspend; when its memory cannot be saved it is taken back, and when somebody connects meanwhile it is called off. */
function suspending(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  if (step === "give-back-ports") return stayingAwake(surroundings);
  const labels: Record<string, string> = undo ? { "berth.fake/save-memory-error": "disk_full" } : {};
  return {
    arrange: async (client) => {
      await create(client, surroundings, { ...sleeper, labels });
    },
    act: (client) => client.suspendInstance({ params: instance, query: long }),
    check: async (client) => {
      const { spec, status } = await client.getInstance({ params: instance });
      if (!undo) return expectAsleep(client);
      expect(spec.power).toBe("running");
      expect(status).toMatchObject({ phase: "running", ready: true, memoryBytes: null });
    },
    cleanUp: remove,
  };
}

async function expectAsleep(client: Client): Promise<void> {
  const { spec, status } = await client.getInstance({ params: instance });
  expect(spec.power).toBe("suspended");
  expect(status).toMatchObject({ phase: "suspended", ready: false, memoryBytes: expect.any(Number) });
}

/** It is about to fall asleep by itself when somebody connects: the fake machine listens to nothing, so somebody else does in its place. */
function stayingAwake(surroundings: Surroundings): Scenario {
  const open: { close(): void }[] = [];
  return {
    arrange: async (client) => {
      const labels = { "berth.fake/save-memory-block": "2000" };
      await create(client, surroundings, { ...sleeper, autosuspend: { idleSeconds: 1 }, labels });
    },
    act: async (client) => {
      const suspending = await eventually(async () => {
        const { items } = await client.listOperations({ query: { unfinished: true } });
        const found = items.find(({ type }) => type === "instance.suspend");
        if (!found) throw new Error("it is awake");
        return found;
      });
      const { status } = await client.getInstance({ params: instance });
      const { hostPort } = status.ports[0] ?? { hostPort: 0 };
      const server = createServer().listen(hostPort, "127.0.0.1");
      const socket = connect({ host: "127.0.0.1", port: hostPort });
      open.push(server, { close: () => socket.destroy() });
      await client.waitOperation({ params: { operation: suspending.id }, query: { timeout: 30 } });
    },
    check: async (client) => {
      const { spec, status } = await client.getInstance({ params: instance });
      expect(spec.power).toBe("running");
      expect(status).toMatchObject({ phase: "running", ready: true, memoryBytes: null });
    },
    cleanUp: async (client) => {
      await remove(client);
      for (const one of open) one.close();
    },
  };
}

async function makeSleeper(
  client: Client,
  surroundings: Surroundings,
  asked: Partial<CreateInstanceInput>,
): Promise<void> {
  await create(client, surroundings, { ...sleeper, ...asked });
  const { operation } = await client.suspendInstance({ params: instance, query: long });
  expect(operation.error).toBeNull();
}

/** A start of what is suspended; from its disks when its memory is dropped for that, and not at all when that is unusable. */
export function resuming(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  const labels: Record<string, string> = undo ? { "berth.fake/memory-damaged": "true" } : {};
  return {
    arrange: (client) => makeSleeper(client, surroundings, { labels }),
    act: (client) =>
      client.startInstance({ params: instance, query: { ...long, ...(step === "drop-memory" ? { cold: true } : {}) } }),
    check: async (client) => {
      const { status } = await client.getInstance({ params: instance });
      if (undo) return expectAsleepStill(client);
      const mode = step === "drop-memory" ? "cold" : "resumed";
      expect(status).toMatchObject({ phase: "running", ready: true, memoryBytes: null, start: { mode } });
    },
    cleanUp: remove,
  };
}

async function expectAsleepStill(client: Client): Promise<void> {
  await expectAsleep(client);
  expect((await client.getInstance({ params: instance })).status.reason).toContain("cannot be gone on from");
}

/** A stop that loses what is in a sleeper's memory. */
function losing(surroundings: Surroundings): Scenario {
  return {
    arrange: (client) => makeSleeper(client, surroundings, {}),
    act: (client) => client.stopInstance({ params: instance, query: { ...long, force: true } }),
    check: async (client) =>
      expect((await client.getInstance({ params: instance })).status).toMatchObject({
        phase: "stopped",
        memoryBytes: null,
      }),
    cleanUp: remove,
  };
}

function deletingSleeper(surroundings: Surroundings): Scenario {
  return { ...deleting(surroundings, "settle", false), arrange: (client) => makeSleeper(client, surroundings, {}) };
}

/** A restart of what runs and yet has memory, which nothing of Berth leaves: it must not be gone on from, since the disks have moved on. */
function restartingStale(surroundings: Surroundings): Scenario {
  return {
    ...restarting(surroundings, "settle"),
    arrange: async (client) => {
      const { id } = await create(client, surroundings, {});
      const folder = join(surroundings.dataDir, "instances", id, "memory");
      mkdirSync(folder);
      writeFileSync(join(folder, "image.json"), "{}");
    },
  };
}

/** A change of what runs; one that is undone asks for a port that another instance has, or has its ports published when its disk cannot grow. */
function changing(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  const before = { cpus: 1, env: { A: "b" }, ports: [{ guestPort: 80 }] };
  const isRefused = undo && step === "reserve-ports";
  let taken = 0;
  return {
    ...(undo && !isRefused ? { failsAt: "instance.change/grow-disk/before" } : {}),
    arrange: async (client) => {
      await create(client, surroundings, before);
      const other = await create(client, surroundings, { name: "other", ports: [{ guestPort: 80 }], start: false });
      taken = other.status.ports[0]?.hostPort ?? 0;
    },
    act: (client) =>
      client.changeInstance({
        params: instance,
        query: long,
        body: {
          ...{ cpus: 2, diskMib: 2048, env: { A: "c" } },
          ports: [{ guestPort: 80 }, { hostPort: isRefused ? taken : 0, guestPort: 81 }],
        },
      }),
    check: async (client) => {
      const { id, spec, status } = await client.getInstance({ params: instance });
      expect(status).toMatchObject({ phase: "running", ready: true });
      expect(status.ports.map(({ guestPort }) => guestPort)).toEqual(undo ? [80] : [80, 81]);
      expect(spec).toMatchObject(undo ? { cpus: 1, env: { A: "b" } } : { cpus: 2, env: { A: "c" } });
      expect(spec.ports).toHaveLength(status.ports.length);
      expect(status.pending).toEqual(undo ? [] : ["cpus", "env"]);
      expect(spec.disks[0]?.sizeMib).toBe(undo ? 1024 : 2048);
      expect(await publishedBy(surroundings, id)).toEqual(status.ports.map(({ hostPort }) => hostPort));
    },
    cleanUp: remove,
  };
}

/** The host ports that the machine itself publishes now, and will when it goes on from its memory. */
async function publishedBy({ dataDir }: Surroundings, id: string): Promise<number[] | undefined> {
  const machines = await new World(localFiles, join(dataDir, "fake"), 0).readAll();
  const machine = machines.find(({ owner }) => owner.instanceId === id);
  expect(machine?.forwards).toEqual(machine?.run?.forwards);
  return machine?.run?.forwards.map(({ hostPort }) => hostPort);
}

/** A fork of what runs; one that is undone has children that cannot go on. */
function forking(surroundings: Surroundings, undo: boolean): Scenario {
  const labels: Record<string, string> = undo ? { "berth.fake/start-error": "internal" } : {};
  let parent: Instance;
  return {
    arrange: async (client) => {
      parent = await create(client, surroundings, { ports: [{ guestPort: 80 }] });
      diskOf(surroundings.dataDir, parent.id).write(0, then);
    },
    act: (client) => client.forkInstance({ params: instance, query: long, body: { count: 2, labels } }),
    check: async (client) => {
      const { items } = await client.listInstances({ query: {} });
      const names = undo ? [name] : [`${name}-1`, `${name}-2`, name];
      expect(items.map((one) => one.name).sort()).toEqual(names.sort());
      for (const one of items) {
        expect(one.status).toMatchObject({ phase: "running", ready: true });
        expect(diskOf(surroundings.dataDir, one.id).read(0)).toBe(then);
        const isParent = one.id === parent.id;
        if (isParent) expect(one.status.startedAt).toBe(parent.status.startedAt);
        else expect(one.status.start?.mode).toBe("forked");
        diskOf(surroundings.dataDir, one.id).write(0, now);
      }
    },
    cleanUp: remove,
  };
}

/** A delete that failed when its disks were gone has to be asked for again. */
function deleting(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  const snapshots = step === "forget-snapshots";
  return {
    ...(undo ? { failsAt: "instance.delete/collect-layers/before" } : {}),
    arrange: async (client) => {
      await create(client, surroundings, { start: false });
      if (snapshots) await takeSnapshot(client);
      await client.startInstance({ params: instance, query: long });
    },
    act: (client) => client.deleteInstance({ params: instance, query: { ...long, force: true, snapshots } }),
    check: async (client) => {
      if (undo) await remove(client);
      await expectGone(client);
      expect((await client.listSnapshots({ query: {} })).items).toEqual([]);
    },
    cleanUp: async () => undefined,
  };
}

/** An archive that is written, or taken back when all of it was. */
function exporting(surroundings: Surroundings, undo: boolean): Scenario {
  return {
    ...(undo ? { failsAt: "instance.export/write-archive/after" } : {}),
    arrange: async (client) => {
      await create(client, surroundings, { start: false });
    },
    act: (client) => client.exportInstance({ params: instance, query: long }),
    check: async (client) => {
      await expectExported(client, undo ? [] : ["victim.berth"]);
      const { status, operationId } = await client.getInstance({ params: instance });
      expect([status.phase, operationId]).toEqual(["stopped", null]);
    },
    cleanUp: async (client) => {
      await removeArchives(client);
      await removeAll(client);
    },
  };
}

function exportingSnapshot(surroundings: Surroundings, undo: boolean): Scenario {
  const exported = exporting(surroundings, undo);
  return {
    ...exported,
    ...(undo ? { failsAt: "snapshot.export/write-archive/after" } : {}),
    arrange: async (client) => {
      await exported.arrange(client);
      await takeSnapshot(client);
    },
    act: (client) => client.exportSnapshot({ params: { snapshot: point }, query: long }),
    check: async (client) => {
      await expectExported(client, undo ? [] : [`${point}.berth`]);
      await verify(client);
    },
  };
}

async function expectExported(client: Client, names: readonly string[]): Promise<void> {
  const whole = names.map((file) => ({ name: file, state: "ready", operationId: null }));
  expect(await archivesOf(client)).toMatchObject(whole);
}

/** An instance comes back from an archive that is all there is of it. */
function importing(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  const labels: Record<string, string> = undo ? { "berth.fake/start-error": "internal" } : {};
  return {
    arrange: async (client) => {
      await create(client, surroundings, { start: false, ports: [{ guestPort: 80 }] });
      await sendAgain(client);
      await remove(client);
    },
    act: async (client) => {
      const [archive] = await archivesOf(client);
      const body = { labels: { ...labels, ...beginningFor(step).labels } };
      await client.importInstance({ params: { archive: archive?.id ?? "" }, query: long, body });
    },
    check: async (client) => {
      expect(await archivesOf(client)).toMatchObject([{ state: "ready", operationId: null }]);
      const { items: images } = await client.listImages({ query: {} });
      expect(images.filter(({ source }) => source.type === "import")).toHaveLength(undo ? 0 : 1);
      if (undo) return expectGone(client);
      const { status } = await client.getInstance({ params: instance });
      expect(status).toMatchObject({ phase: "running", ready: true });
    },
    cleanUp: async (client) => {
      await removeArchives(client);
      await remove(client);
    },
  };
}

/** Exports the instance and sends what comes of it back, as one that was fetched and is sent elsewhere. */
async function sendAgain(client: Client): Promise<string> {
  const { archive } = await client.exportInstance({ params: instance, query: long });
  const content = await client.readArchive({ params: { archive: archive.id } });
  const bytes = new Uint8Array(await new Response(content).arrayBuffer());
  await client.deleteArchive({ params: { archive: archive.id }, query: long });
  const { name: file, beginning } = archive;
  const body = { name: file, sizeBytes: bytes.length, beginning: beginning ?? "" };
  const { id } = await client.createArchive({ body });
  await client.writeArchive({ params: { archive: id }, body: bytes });
  return id;
}

function deletingArchive(surroundings: Surroundings): Scenario {
  const exported = exporting(surroundings, false);
  return {
    ...exported,
    arrange: async (client) => {
      await exported.arrange(client);
      await exported.act(client);
    },
    act: removeArchives,
    check: async (client) => expect(await archivesOf(client)).toEqual([]),
  };
}

async function archivesOf(client: Client) {
  return (await client.listArchives({ query: {} })).items;
}

async function removeArchives(client: Client): Promise<void> {
  for (const { id } of await archivesOf(client)) await client.deleteArchive({ params: { archive: id }, query: long });
}

/** What is on the victim's disk before and after it was snapshotted. */
const [then, now] = [0x11, 0x22];

/** A snapshot of what is off, or runs where the step is about that. */
function snapshotting(surroundings: Surroundings, step: string): Scenario {
  const start = step === "switch-disks" || step === "save-memory";
  const memory = step === "save-memory";
  let id = "";
  return {
    arrange: async (client) => {
      ({ id } = await create(client, surroundings, { start }));
      diskOf(surroundings.dataDir, id).write(0, then);
    },
    act: (client) => client.createSnapshot({ query: long, body: { instance: name, name: point, memory } }),
    check: async (client) => {
      const disk = diskOf(surroundings.dataDir, id);
      const phase = start ? "running" : "stopped";
      expect((await client.getInstance({ params: instance })).status.phase).toBe(phase);
      const made = await client.getSnapshot({ params: { snapshot: point } });
      expect(made.consistency).toBe(memory ? "memory" : start ? "frozen" : "stopped");
      expect(disk.read(0)).toBe(then);
      disk.write(0, now);
      await verify(client);
      await restore(client);
      expect(disk.read(0)).toBe(then);
      expect((await client.getInstance({ params: instance })).status.phase).toBe(phase);
    },
    cleanUp: removeAll,
  };
}

/** A snapshot that fails when all but its checksums is done: the disk is the very file that it was. */
function notSnapshotted(surroundings: Surroundings): Scenario {
  let disk: ReturnType<typeof diskOf>;
  let file: unknown;
  return {
    failsAt: "snapshot.create/record-layers/after",
    arrange: async (client) => {
      disk = diskOf(surroundings.dataDir, (await create(client, surroundings, { start: false })).id);
      disk.write(0, then);
      file = statSync(disk.path).ino;
    },
    act: (client) => client.createSnapshot({ query: long, body: { instance: name, name: point } }),
    check: async (client) => {
      expect((await client.listSnapshots({ query: {} })).items).toEqual([]);
      expect(statSync(disk.path).ino).toBe(file);
      expect(disk.read(0)).toBe(then);
      disk.write(0, now);
    },
    cleanUp: removeAll,
  };
}

function verifying(surroundings: Surroundings): Scenario {
  return {
    arrange: async (client) => {
      await create(client, surroundings, { start: false });
      await takeSnapshot(client);
    },
    act: verify,
    check: async (client) => {
      const { verification } = await client.getSnapshot({ params: { snapshot: point } });
      expect(verification.verdict).toBe("sound");
    },
    cleanUp: removeAll,
  };
}

/** The image needs neither the snapshot nor what that was of; one that cannot be kept is none. */
function promoting(surroundings: Surroundings, undo: boolean): Scenario {
  return {
    ...(undo ? { failsAt: "image.promote/keep-disk/after" } : {}),
    arrange: async (client) => {
      const { id } = await create(client, surroundings, { start: false, diskMib: 512 });
      diskOf(surroundings.dataDir, id).write(0, then);
      await takeSnapshot(client);
    },
    act: (client) => client.promoteSnapshot({ params: { snapshot: point }, query: long, body: { reference: built } }),
    check: async (client) => {
      await verify(client);
      expect(await imagesNamed(client, built)).toHaveLength(undo ? 0 : 1);
      if (undo) return;
      await removeAll(client);
      const { id } = await create(client, { ...surroundings, image: built }, { start: false });
      expect(diskOf(surroundings.dataDir, id).read(0)).toBe(then);
    },
    cleanUp: async (client) => {
      await removeAll(client);
      await removeBuilt(client);
    },
  };
}

/** Of three snapshots the one in the middle is deleted. */
function deletingSnapshot(surroundings: Surroundings, undo: boolean): Scenario {
  let disk: ReturnType<typeof diskOf>;
  return {
    ...(undo ? { failsAt: "snapshot.delete/collect-layers/before" } : {}),
    arrange: async (client) => {
      disk = diskOf(surroundings.dataDir, (await create(client, surroundings, { start: false })).id);
      for (const [at, snapshot] of ["first", point, "last"].entries()) {
        disk.write(at, then);
        await takeSnapshot(client, snapshot);
      }
      disk.write(0, now);
    },
    act: (client) => client.deleteSnapshot({ params: { snapshot: point }, query: long }),
    check: async (client) => {
      const { items } = await client.listSnapshots({ query: {} });
      expect(items.map((snapshot) => snapshot.name)).toEqual(["last", "first"]);
      expect([0, 1, 2].map(disk.read)).toEqual([now, then, then]);
      await restore(client, "last");
      expect([0, 1, 2].map(disk.read)).toEqual([then, then, then]);
      await restore(client, "first");
      expect([0, 1, 2].map(disk.read)).toEqual([then, 0, 0]);
    },
    cleanUp: removeAll,
  };
}

/** Of three snapshots the one in the middle is deleted, and its file merged with the last one's: what that is there for is killed, and done by the next daemon. */
function merging(surroundings: Surroundings): Scenario {
  const deleting = deletingSnapshot(surroundings, false);
  return {
    ...deleting,
    check: async (client) => {
      await eventually(() => expect(frozenFiles(surroundings.dataDir)).toHaveLength(2));
      const params = { snapshot: "last" };
      expect((await client.verifySnapshot({ params, query: long })).operation.error).toBeNull();
      await deleting.check(client);
    },
  };
}

/** A restore of what runs; one that fails is as before until its disks are replaced, and as asked from then on. */
function restoring(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  const isBefore = undo && step === "prepare-restore";
  const failsAt = isBefore ? "instance.restore/prepare-restore/after" : `instance.restore/${step}/after`;
  let made: Instance;
  return {
    ...(undo ? { failsAt } : {}),
    arrange: async (client) => {
      const asked: Partial<CreateInstanceInput> =
        step === "power-off"
          ? { labels: deaf, stopTimeoutMs: 0 }
          : { ports: [{ guestPort: 80 }], ...beginningFor(step) };
      made = await create(client, surroundings, { ...asked, start: false });
      const disk = diskOf(surroundings.dataDir, made.id);
      disk.write(0, then);
      await takeSnapshot(client);
      disk.write(0, now);
      const { operation } = await client.startInstance({ params: instance, query: long });
      expect(operation.error).toBeNull();
      prepareFor(step, surroundings);
    },
    act: async (client) => {
      if (step === "create-machine") await forgetMachine(surroundings, made);
      return client.restoreSnapshot({ params: { snapshot: point }, query: long, body: { force: true } });
    },
    check: async (client) => {
      const disk = diskOf(surroundings.dataDir, made.id);
      const { items } = await client.listSnapshots({ query: {} });
      const { status } = await client.getInstance({ params: instance });
      expect(disk.read(0)).toBe(isBefore ? now : then);
      expect(items).toHaveLength(isBefore ? 1 : 2);
      if (!undo) expect(status).toMatchObject({ phase: "running", ready: true });
      if (isBefore) return;
      const [kept] = items;
      await client.stopInstance({ params: instance, query: long });
      await restore(client, kept?.name);
      expect(disk.read(0)).toBe(now);
    },
    cleanUp: removeAll,
  };
}

/** Going back to a snapshot loses what is in a sleeper's memory, which fits its present disks alone. */
function restoringSleeper(surroundings: Surroundings): Scenario {
  let made: Instance;
  return {
    arrange: async (client) => {
      made = await create(client, surroundings, { ...sleeper, start: false });
      const disk = diskOf(surroundings.dataDir, made.id);
      disk.write(0, then);
      await takeSnapshot(client);
      disk.write(0, now);
      for (const change of [client.startInstance, client.suspendInstance]) {
        const { operation } = await change({ params: instance, query: long });
        expect(operation.error).toBeNull();
      }
    },
    act: (client) => client.restoreSnapshot({ params: { snapshot: point }, query: long, body: { force: true } }),
    check: async (client) => {
      expect(diskOf(surroundings.dataDir, made.id).read(0)).toBe(then);
      expect((await client.getInstance({ params: instance })).status).toMatchObject({
        phase: "stopped",
        memoryBytes: null,
      });
    },
    cleanUp: removeAll,
  };
}

/**
 * A rebuild of what runs, from another image. What its disk had is gone afterwards, and in the snapshot that keeps it; it is there when the new one could not be prepared. One that was stopped for it and
 * fails is rebuilt all the same.
 */
function rebuilding(surroundings: Surroundings, step: string, undo: boolean): Scenario {
  const isBefore = undo && step === "prepare-rebuild";
  // What is made bootable again is what its former disk stands on, too.
  const target = step === "realise-image" ? surroundings.image : built;
  let made: Instance;
  const read = () => diskOf(surroundings.dataDir, made.id).read(0);
  return {
    ...(undo ? { failsAt: `instance.rebuild/${step}/after` } : {}),
    arrange: async (client) => {
      if (target === built) await build(client, surroundings.context);
      const asked: Partial<CreateInstanceInput> =
        step === "power-off"
          ? { labels: deaf, stopTimeoutMs: 0 }
          : { ports: [{ guestPort: 80 }], ...beginningFor(step) };
      // The image that is built names none.
      made = await create(client, surroundings, { ...asked, command: ["/hello"], start: false });
      diskOf(surroundings.dataDir, made.id).write(0, now);
      const { operation } = await client.startInstance({ params: instance, query: long });
      expect(operation.error).toBeNull();
      prepareFor(step, surroundings);
    },
    act: async (client) => {
      if (step === "create-machine") await forgetMachine(surroundings, made);
      return client.rebuildInstance({ params: instance, query: long, body: { image: target } });
    },
    check: async (client) => {
      const { image, status } = await client.getInstance({ params: instance });
      const { items } = await client.listSnapshots({ query: {} });
      expect(read()).toBe(isBefore ? now : 0);
      expect(image).toBe(isBefore ? surroundings.image : target);
      expect(items).toHaveLength(isBefore ? 0 : 1);
      if (isBefore) {
        // It was not stopped for it, nor is it believed to be.
        const running = { phase: "running", ready: true, startedAt: expect.any(String) };
        await eventually(async () =>
          expect((await client.getInstance({ params: instance })).status).toMatchObject(running),
        );
        return;
      }
      if (!undo) expect(status).toMatchObject({ phase: "running", ready: true, ports: made.status.ports });
      await client.stopInstance({ params: instance, query: long });
      await restore(client, items[0]?.name);
      expect(read()).toBe(now);
      expect((await client.getInstance({ params: instance })).image).toBe(surroundings.image);
    },
    cleanUp: async (client) => {
      await removeAll(client);
      await removeBuilt(client);
    },
  };
}

/** A rebuild loses what is in a sleeper's memory, which fits its present disks alone. */
function rebuildingSleeper(surroundings: Surroundings): Scenario {
  let made: Instance;
  return {
    arrange: async (client) => {
      made = await create(client, surroundings, sleeper);
      diskOf(surroundings.dataDir, made.id).write(0, now);
      const { operation } = await client.suspendInstance({ params: instance, query: long });
      expect(operation.error).toBeNull();
    },
    act: (client) => client.rebuildInstance({ params: instance, query: long, body: { force: true, discard: true } }),
    check: async (client) => {
      expect(diskOf(surroundings.dataDir, made.id).read(0)).toBe(0);
      const off = { phase: "stopped", memoryBytes: null };
      expect((await client.getInstance({ params: instance })).status).toMatchObject(off);
    },
    cleanUp: removeAll,
  };
}

async function takeSnapshot(client: Client, snapshot = point): Promise<void> {
  const { operation } = await client.createSnapshot({ query: long, body: { instance: name, name: snapshot } });
  expect(operation.error).toBeNull();
}

async function verify(client: Client): Promise<void> {
  const { operation } = await client.verifySnapshot({ params: { snapshot: point }, query: long });
  expect(operation.error).toBeNull();
}

async function restore(client: Client, snapshot = point): Promise<void> {
  const body = { discard: true, force: true };
  const { operation } = await client.restoreSnapshot({ params: { snapshot }, query: long, body });
  expect(operation.error).toBeNull();
}

async function removeAll(client: Client): Promise<void> {
  await remove(client);
  for (const { id } of (await client.listSnapshots({ query: {} })).items) {
    const { operation } = await client.deleteSnapshot({ params: { snapshot: id }, query: long });
    expect(operation.error).toBeNull();
  }
}

async function create(client: Client, { image }: Surroundings, asked: Partial<CreateInstanceInput>): Promise<Instance> {
  const { instance: made, operation } = await client.createInstance({ query: long, body: { image, name, ...asked } });
  expect(operation.error).toBeNull();
  return made;
}

async function remove(client: Client): Promise<void> {
  const { items } = await client.listInstances({ query: {} });
  for (const { id } of items)
    await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
  await removeTemplates(client);
}

async function removeTemplates(client: Client): Promise<void> {
  for (const { id } of (await client.listTemplates()).items)
    await client.deleteTemplate({ params: { template: id }, query: long });
}

async function build(client: Client, path: string): Promise<void> {
  const body = { reference: built, source: { type: "directory" as const, path } };
  const { operation } = await client.buildImage({ query: long, body });
  expect(operation.error).toBeNull();
}

async function removeBuilt(client: Client): Promise<void> {
  for (const { id } of await imagesNamed(client, built))
    await client.deleteImage({ params: { image: id }, query: long });
}

async function imagesNamed(client: Client, reference: string) {
  return (await client.listImages({ query: { reference } })).items;
}

async function expectReady(client: Client, reference: string): Promise<void> {
  expect((await imagesNamed(client, reference)).map(({ state }) => state)).toEqual(["ready"]);
}

async function expectGone(client: Client): Promise<void> {
  expect((await client.listInstances({ query: {} })).items).toEqual([]);
}

/** The artifact is rebuildable, so it may be lost at any time. */
function prepareFor(step: string, { dataDir }: Surroundings): void {
  if (step === "realise-image") rmSync(join(dataDir, "artifacts"), { recursive: true });
}

/** Only who must begin from a template asks for one. */
function beginningFor(step: string): Partial<CreateInstanceInput> {
  // Otherwise it may be ready before anybody needs to wait for it.
  if (step === "await-ready") return { ports: [{ guestPort: 80 }], labels: { "berth.fake/ready-after": "3000" } };
  return step === "request-template" ? { warm: "require" } : {};
}

/** The hypervisor lost the machine. */
async function forgetMachine({ dataDir }: Surroundings, { id }: Instance): Promise<void> {
  const world = new World(localFiles, join(dataDir, "fake"), 0);
  const machines = (await world.readAll()).filter(({ owner }) => owner.instanceId === id);
  for (const machine of machines) await world.change(machine.id, () => null);
}
