import { join } from "node:path";
import type { Client, Instance, Snapshot } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { diskOf } from "../support/disks.ts";
import { eventually } from "../support/eventually.ts";
import { storeSettings } from "../support/postgres.ts";
import { expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { snapshotCalls } from "../support/snapshot-calls.ts";

const query = { wait: 60 } as const;
/** Also while the schedule is at it. */
const waiting = { ...query, queue: true } as const;
const params = { instance: "web" };
const daily = { everySeconds: 86_400 };
const secondly = { everySeconds: 1, keep: { last: 2 } };

let registry: FakeRegistry;

beforeAll(async () => {
  registry = await startFakeRegistry();
  registry.addImage("app", "latest", [writeTar([{ path: "f", content: "x" }])], { config: { Cmd: ["/f"] } });
});

afterAll(() => registry?.[Symbol.asyncDispose]());

describe.each(["sqlite", "postgres"] as const)("with %s, a schedule of snapshots", (kind) => {
  let dataDir: string;
  let env: Record<string, string>;
  let berthd: Berthd;
  let client: Client;

  const restartBerthd = async (whileDown: () => Promise<unknown> = async () => undefined) => {
    await berthd.stop();
    await whileDown();
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
  };

  beforeAll(async () => {
    const store = await storeSettings(kind);
    env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host, ...store };
    dataDir = join(await scratchDirectory("sched"), "data");
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
  });

  afterAll(() => berthd?.stop());

  const { create, snapshot, start, remove, launch, removeAll } = snapshotCalls(
    () => client,
    () => `${registry.host}/app`,
  );

  afterEach(async () => {
    await removeAll();
    await audit(client, dataDir);
  });

  const get = () => client.getInstance({ params });
  const set = async (snapshots: { everySeconds?: number; keep?: object } | null) =>
    (await client.changeInstance({ params, query: waiting, body: { snapshots } })).effects;
  const all = async (): Promise<Snapshot[]> => (await client.listSnapshots({ query: {} })).items;
  const automatic = async () => (await all()).filter((one) => one.automatic && one.state === "ready");
  /** The automatic ones once one was taken beside those. */
  const oneMore = (before: readonly Snapshot[]) =>
    eventually(async () => {
      const now = await automatic();
      expect(now.some(({ id }) => !before.some((one) => one.id === id))).toBe(true);
      return now;
    });
  /** How the schedule stands once it had a turn after this. */
  const turnAfter = (lastAt: string | undefined) =>
    eventually(async () => {
      const { snapshots } = (await get()).status;
      expect(Date.parse(snapshots?.lastAt ?? "")).toBeGreaterThan(Date.parse(lastAt ?? ""));
      return snapshots;
    });
  const turn = () =>
    eventually(async () => {
      const { snapshots } = (await get()).status;
      expect(snapshots).not.toBeNull();
      return snapshots;
    });

  it("takes them of what runs, named after it, deletes those that need not stay, and never one made by hand", async () => {
    await create("web");
    await snapshot("web", "mine");
    await set(secondly);
    const seen = new Set<string>();
    await eventually(async () => {
      for (const { name } of await automatic()) seen.add(name);
      expect(seen.size).toBeGreaterThan(4);
    });
    expect([...seen].every((name) => /^web-auto-\d{8}-\d{6}(-\d+)?$/.test(name))).toBe(true);
    expect(await set(null)).toEqual([{ field: "snapshots", takes: "live" }]);
    await eventually(async () => expect((await get()).status.snapshots).toBeNull());
    const left = await all();
    expect(left.filter((one) => !one.automatic).map(({ name }) => name)).toEqual(["mine"]);
    const made = left.filter((one) => one.automatic);
    expect(made.length).toBeGreaterThanOrEqual(2);
    expect(made.length).toBeLessThanOrEqual(4);
    expect(made[0]).toMatchObject({ kind: "disk", consistency: "frozen" });
  });

  it("begins with its next turn, keeps what a change leaves out, and ends with off", async () => {
    await create("web");
    expect((await get()).spec.snapshots).toBeNull();
    await expectRefused(set({ keep: { hours: 3 } }), "invalid_request", "how often");
    await expectRefused(set({ ...daily, keep: {} }), "invalid_request", "keep something");
    await expectRefused(set({ ...daily, keep: { hours: 60, days: 1 } }), "invalid_request", "more than 60");
    await set(daily);
    const usual = { last: 0, hours: 24, days: 7, weeks: 4, months: 0 };
    expect((await get()).spec.snapshots).toEqual({ ...daily, keep: usual });
    const { nextAt } = (await turn()) ?? {};
    expect(nextAt).toMatch(/T00:00:00.000Z$/);
    expect(Date.parse(nextAt ?? "") - Date.now()).toBeLessThanOrEqual(86_400_000);
    await set({ keep: { days: 3 } });
    expect((await get()).spec.snapshots).toEqual({ ...daily, keep: { ...usual, hours: 0, weeks: 0, days: 3 } });
    expect(await all()).toEqual([]);
    await set(null);
    await eventually(async () => expect((await get()).status.snapshots).toBeNull());
  });

  it("takes none of what is off and has not changed, and one of what has; none of what is suspended", async () => {
    const { id } = await create("web", { snapshots: { everySeconds: 1 }, start: false });
    const first = await turn();
    await turnAfter((await turnAfter(first?.lastAt))?.lastAt);
    expect(await all()).toEqual([]);
    diskOf(dataDir, id).write(0, 0x11);
    const [taken] = await oneMore([]);
    expect(taken).toMatchObject({ consistency: "stopped" });
    await turnAfter((await turnAfter(new Date().toISOString()))?.lastAt);
    expect(await all()).toHaveLength(1);
    await start("web");
    await oneMore([taken as Snapshot]);
    expect((await client.suspendInstance({ params, query: waiting })).operation.error).toBeNull();
    const asleep = await all();
    await restartBerthd();
    expect((await all()).map(({ id }) => id)).toEqual(asleep.map(({ id }) => id));
    expect((await client.startInstance({ params, query })).operation.error).toBeNull();
    await oneMore(asleep);
  });

  it("makes up once for what was missed while berthd was down", async () => {
    await create("web", { snapshots: daily });
    const status = await turn();
    const past = new Date(Date.parse(status?.lastAt ?? "") - 5 * 86_400_000).toISOString();
    await restartBerthd(() => rewriteStatus(dataDir, env, (seen) => ({ ...seen, lastAt: past })));
    await oneMore([]);
    const { lastAt, nextAt } = (await turn()) ?? {};
    expect(lastAt).toBe((await all())[0]?.createdAt);
    expect(Date.parse(nextAt ?? "")).toBeGreaterThan(Date.now());
    await restartBerthd();
    expect((await turn())?.lastAt).toBe(lastAt);
    expect(await all()).toHaveLength(1);
  });

  it("tells of one that cannot be taken, waits before it tries again, and leaves nothing behind", async () => {
    const labels = { "berth.fake/switch-disks-error": "host_program_failed" };
    await create("web", { snapshots: secondly, labels });
    const failed = await eventually(async () => {
      const { snapshots } = (await get()).status;
      expect(snapshots).toMatchObject({ failures: 1, reason: expect.stringContaining("switch-disks-error") });
      return snapshots;
    });
    const pauseMs = Date.parse(failed?.nextAt ?? "") - Date.now();
    expect(pauseMs).toBeGreaterThan(50_000);
    expect(pauseMs).toBeLessThanOrEqual(60_000);
    expect(await all()).toEqual([]);
    expect((await get()).status).toMatchObject({ phase: "running", ready: true });
    const { items } = await client.listEvents({ query: { type: "snapshot.failed" } });
    expect(items.at(-1)).toMatchObject({ data: { reason: failed?.reason } });
  });

  it("ends with its instance, whose snapshots stay unless they are to go, and is not taken over by a copy", async () => {
    const { id } = await create("web", { snapshots: { everySeconds: 1, keep: { last: 60 } } });
    const [taken] = await oneMore([]);
    const copy = await launch(taken?.name ?? "", { name: "copy", start: false });
    expect(copy.spec.snapshots).toBeNull();
    await remove(id);
    const left = (await all()).map(({ name }) => name);
    expect(left.length).toBeGreaterThan(0);
    await create("web", { start: false });
    await restartBerthd();
    expect((await all()).map(({ name }) => name)).toEqual(left);
  });
});

/** Makes a schedule's last turn another one, as if berthd had been down. */
async function rewriteStatus(
  dataDir: string,
  env: Readonly<Record<string, string>>,
  change: (seen: NonNullable<Instance["status"]["snapshots"]>) => object,
): Promise<void> {
  const { openStore } = await import("../../packages/daemon/src/store/store.ts");
  const url = env.BERTH_STORE;
  const store = await openStore(url ? { kind: "postgres", url } : { kind: "sqlite", path: join(dataDir, "berth.db") });
  for (const { id, status } of await store.queries.selectFrom("instance").select(["id", "status"]).execute()) {
    const seen = JSON.parse(status);
    const changed = JSON.stringify({ ...seen, snapshots: change(seen.snapshots) });
    await store.queries.updateTable("instance").set({ status: changed }).where("id", "=", id).execute();
  }
  await store.close();
}
