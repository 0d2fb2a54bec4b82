import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Client, CreateInstanceInput, Operation } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
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

  beforeAll(async () => {
    const scratch = await scratchDirectory("queue");
    const store = await storeSettings(kind);
    const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", ...store };
    berthd = await startBerthd({ dataDir: join(scratch, "data"), env });
    client = berthd.client;
    const path = join(scratch, "context");
    await mkdir(path);
    await writeFile(join(path, "Dockerfile"), 'FROM scratch\nCOPY Dockerfile /\nCMD ["/none"]\n');
    const { operation } = await client.buildImage({
      query: long,
      body: { source: { type: "directory", path }, reference: image },
    });
    expect(operation.error).toBeNull();
  });

  afterAll(() => berthd?.stop());

  afterEach(async () => {
    await client.deleteInstance({ params, query: { ...long, force: true } });
  });

  /** An instance whose process runs and is not ready yet: its creation waits for that. */
  async function createSlowly(more: Partial<CreateInstanceInput> = {}): Promise<Operation> {
    const env = { BERTH_FAKE_READY_AFTER: "1500" };
    const body = { image, name, env, ports: [{ guestPort: 80 }], ...more };
    const { instance, operation } = await client.createInstance({ body });
    expect(instance.operationId).toBe(operation.id);
    await eventually(async () => expect((await read(operation)).steps.at(-1)?.name).toBe("await-ready"));
    return operation;
  }

  const read = ({ id }: Operation) => client.getOperation({ params: { operation: id } });
  const ended = ({ id }: Operation) => client.waitForOperation(id);
  const statusNow = async () => (await client.getInstance({ params })).status;

  it("a stop that waits for a creation does not change what that one is about", async () => {
    const creation = await createSlowly();
    const { instance, operation: stop } = await client.stopInstance({ params, query: { ...long, queue: true } });
    expect(await read(creation)).toMatchObject({ status: "succeeded", error: null });
    expect(stop).toMatchObject({ status: "succeeded", error: null });
    expect(instance.status).toMatchObject({ phase: "stopped", reason: "" });
  });

  it("a restart that waits for a creation restarts what that one has started", async () => {
    const creation = await createSlowly();
    const { instance, operation: restart } = await client.restartInstance({ params, query: { ...long, queue: true } });
    expect(await read(creation)).toMatchObject({ status: "succeeded", error: null });
    expect(restart).toMatchObject({ status: "succeeded", error: null });
    expect(restart.steps.map((step) => step.name)).toEqual(["stop-guest", "start-machine", "await-ready"]);
    expect(instance.status).toMatchObject({ phase: "running", ready: true, restartGeneration: 1 });
  });

  it("a stop that is cancelled while it waits leaves the instance as its holder makes it", async () => {
    const creation = await createSlowly();
    const { instance, operation: stop } = await client.stopInstance({ params, query: { queue: true } });
    expect(instance.operationId).toBe(creation.id);
    await client.cancelOperation({ params: { operation: stop.id } });
    expect((await ended(stop)).status).toBe("cancelled");
    expect((await statusNow()).phase).not.toBe("unknown");
    expect((await ended(creation)).status).toBe("succeeded");
    expect(await statusNow()).toMatchObject({ phase: "running", ready: true });
  });

  it("of changes with one If-Match only one is made, however many come at once", async () => {
    const { instance } = await client.createInstance({ query: long, body: { image, name, start: false } });
    const restart = async () => {
      const response = await fetch(`${berthd.url}/api/v1/instances/${name}/restart?queue=true`, {
        method: "POST",
        headers: { authorization: `Bearer ${berthd.token}`, "if-match": `"${instance.generation}"` },
      });
      return response.status;
    };
    const statuses = await Promise.all([restart(), restart(), restart(), restart()]);
    expect(statuses.toSorted()).toEqual([202, 412, 412, 412]);
    const { spec, generation } = await client.getInstance({ params });
    expect({ generation, restarts: spec.restartGeneration }).toEqual({ generation: 2, restarts: 1 });
  });

  it("of restarts that come at once each is one more", async () => {
    await client.createInstance({ query: long, body: { image, name } });
    const restart = () => client.restartInstance({ params, query: { ...long, queue: true } });
    const answers = await Promise.all([restart(), restart(), restart()]);
    expect(answers.map(({ operation }) => operation.status)).toEqual(["succeeded", "succeeded", "succeeded"]);
    const { spec, status } = await client.getInstance({ params });
    expect([spec.restartGeneration, status.restartGeneration]).toEqual([3, 3]);
  });
});
