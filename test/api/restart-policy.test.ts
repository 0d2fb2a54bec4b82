import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { Client, CreateInstanceInput } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { World } from "../../packages/daemon/src/drivers/fake/world.ts";
import { localFiles } from "../../packages/daemon/src/host/files.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { eventually } from "../support/eventually.ts";
import { storeSettings } from "../support/postgres.ts";
import { scratchDirectory } from "../support/scratch.ts";

const image = "localhost/any:latest";
const name = "web";
const params = { instance: name };
const long = { wait: 60 } as const;

describe.each(["sqlite", "postgres"] as const)("with %s", (kind) => {
  let berthd: Berthd;
  let client: Client;
  let dataDir: string;
  let env: Record<string, string>;

  const start = async () => {
    berthd = await startBerthd({ dataDir, env });
    client = berthd.client;
  };

  beforeAll(async () => {
    const scratch = await scratchDirectory("again");
    const store = await storeSettings(kind);
    env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", ...store };
    dataDir = join(scratch, "data");
    await start();
    const path = join(scratch, "context");
    await mkdir(path);
    await writeFile(join(path, "Dockerfile"), 'FROM scratch\nCOPY Dockerfile /\nCMD ["/none"]\n');
    const body = { source: { type: "directory" as const, path }, reference: image };
    expect((await client.buildImage({ query: long, body })).operation.error).toBeNull();
  });

  afterAll(() => berthd?.stop());

  afterEach(async () => {
    for (const { id } of (await client.listInstances({ query: {} })).items)
      await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
  });

  /** Makes an instance whose process runs for so many milliseconds and ends with this code. */
  const create = (exitAfter: number, exitCode: number, asked: Partial<CreateInstanceInput>) => {
    const env = { BERTH_FAKE_EXIT_AFTER: String(exitAfter), BERTH_FAKE_EXIT_CODE: String(exitCode) };
    return client.createInstance({ query: long, body: { image, name, env, ...asked } });
  };
  const now = async () => (await client.getInstance({ params })).status;
  const until = (seen: object) => eventually(async () => expect(await now()).toMatchObject(seen));
  /** When each restart was opened, and why. */
  const restarts = async () => {
    const { id } = await client.getInstance({ params });
    const { items } = await client.listEvents({ query: { subject: id, type: "instance.restarting" } });
    return items.map(({ at, data }) => ({ at: Date.parse(at), ...data }));
  };

  it("what ends with a failure is started again, later each time, and no more often than allowed", async () => {
    await create(1, 3, { restart: "on-failure:3" });
    await until({ phase: "failed", exitCode: 3, restarts: { count: 3, nextAt: null } });
    const began = await restarts();
    expect(began).toMatchObject([
      { count: 1, policy: "on-failure:3", reason: expect.stringContaining("exit code 3") },
      { count: 2 },
      { count: 3 },
    ]);
    const [first = 0, second = 0, third = 0] = began.map(({ at }) => at);
    expect(second - first).toBeGreaterThanOrEqual(2000);
    expect(third - second).toBeGreaterThanOrEqual(4000);
    // Started by hand, it is counted anew.
    await client.startInstance({ params, query: { ...long, queue: true } });
    await until({ restarts: { count: 1 } });
  });

  it("what ends well is started again by always, not by on-failure", async () => {
    await create(1, 0, { restart: "on-failure" });
    await until({ phase: "stopped", exitCode: 0 });
    expect((await now()).restarts).toEqual({ count: 0, delayMs: 0, nextAt: null });
    const { effects } = await client.changeInstance({ params, query: long, body: { restart: "always" } });
    expect(effects).toEqual([{ field: "restart", takes: "live" }]);
    await until({ restarts: { count: 1 } });
    await client.changeInstance({ params, query: { ...long, queue: true }, body: { restart: "no" } });
    await until({ phase: "stopped", restarts: { count: 0, nextAt: null } });
  });

  it("what fails before it is ready is tried again as well", async () => {
    const { operation } = await create(1, 1, { restart: "always", ports: [{ guestPort: 80 }], labels: { a: "b" } });
    expect(operation.error?.code).toBe("exited_early");
    await until({ restarts: { count: 1 } });
    await client.changeInstance({
      params,
      query: { ...long, queue: true },
      body: { env: { BERTH_FAKE_EXIT_AFTER: "never" } },
    });
    await until({ phase: "running", ready: true });
  });

  it("a stop is never fought, while it runs and while it waits to be started", async () => {
    await create(1, 1, { restart: "always" });
    await eventually(async () => expect((await now()).restarts.nextAt).not.toBeNull());
    await client.stopInstance({ params, query: { ...long, force: true } });
    expect((await now()).restarts).toEqual({ count: 0, delayMs: 0, nextAt: null });
    const begun = (await restarts()).length;
    await client.changeInstance({ params, query: long, body: { env: { BERTH_FAKE_EXIT_AFTER: "never" } } });
    await client.startInstance({ params, query: long });
    await client.stopInstance({ params, query: long });
    // As long as the pause that a restart would have had, and an event that a start would have been seen before.
    await create(1300, 0, { name: "other" });
    await eventually(async () => {
      const other = await client.getInstance({ params: { instance: "other" } });
      expect(other.status.phase).toBe("stopped");
    });
    expect(await now()).toMatchObject({ phase: "stopped", restarts: { count: 0, nextAt: null } });
    expect(await restarts()).toHaveLength(begun);
  });

  it("a start that is cancelled is not begun again", async () => {
    await create(1, 0, { start: false, restart: "always", labels: { "berth.fake/start-block": "forever" } });
    const { operation } = await client.startInstance({ params });
    await client.cancelOperation({ params: { operation: operation.id } });
    expect((await client.waitForOperation(operation.id)).status).toBe("cancelled");
    expect(await client.getInstance({ params })).toMatchObject({
      spec: { power: "stopped" },
      status: { phase: "stopped" },
    });
    expect(await restarts()).toEqual([]);
  });

  it("berthd's death neither forgets what ended nor what was to be started", async () => {
    await create(700, 1, { restart: "on-failure" });
    await berthd.kill();
    await start();
    await until({ restarts: { count: 1 } });
    await until({ restarts: { count: 1, delayMs: 2000, nextAt: expect.any(String) } });
    const { nextAt } = (await now()).restarts;
    await berthd.kill();
    await start();
    await until({ restarts: { count: 2 } });
    const [, second] = await restarts();
    expect(second?.at).toBeGreaterThanOrEqual(Date.parse(nextAt ?? ""));
  });

  if (kind === "sqlite")
    describe("after the node's restart", () => {
      it("what ran comes back with always and unless-stopped; what was stopped with always alone", async () => {
        const policies = ["no", "on-failure", "always", "unless-stopped"] as const;
        for (const restart of policies) {
          await create(100_000, 0, { name: `ran-${restart}`, restart });
          await create(100_000, 0, { name: `was-${restart}`, restart });
          await client.stopInstance({ params: { instance: `was-${restart}` }, query: long });
        }
        await berthd.stop();
        // What a power cut does: every machine is off without a word, and the node has another boot id.
        const world = new World(localFiles, join(dataDir, "fake"), 0);
        for (const { id } of await world.readAll())
          await world.change(id, (machine) =>
            machine?.run ? { ...machine, run: { ...machine.run, cutAt: Date.now() } } : machine,
          );
        using database = new DatabaseSync(join(dataDir, "berth.db"));
        const { changes } = database
          .prepare("update setting set value = json_set(value, '$.bootId', 'another') where name like 'boot of %'")
          .run();
        expect(changes).toBe(1);
        await start();
        const running = async () => {
          const { items } = await client.listInstances({ query: {} });
          return items
            .filter(({ status }) => status.phase === "running")
            .map((one) => one.name)
            .sort();
        };
        const back = ["ran-always", "ran-unless-stopped", "was-always"];
        await eventually(async () => expect(await running()).toEqual(back));
        // Another start of berthd is no restart of the node.
        await client.stopInstance({ params: { instance: "was-always" }, query: long });
        await berthd.stop();
        await start();
        await create(1300, 0, { name: "other" });
        await eventually(async () => {
          const other = await client.getInstance({ params: { instance: "other" } });
          expect(other.status.phase).toBe("stopped");
        });
        expect(await running()).toEqual(["ran-always", "ran-unless-stopped"]);
      });
    });
});
