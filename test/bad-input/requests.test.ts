import { join } from "node:path";
import { type CreateInstanceInput, errorCatalogue } from "@berth/api";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { audit } from "../faults/audit.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { eventually } from "../support/eventually.ts";
import { freePort } from "../support/ports.ts";
import { expectFailed, expectProblem, expectRefused } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";

const long = { wait: 60 } as const;
const name = "web";
const params = { instance: name };

let registry: FakeRegistry;
let image: string;
let dataDir: string;
let env: Record<string, string>;
let berthd: Berthd;

beforeAll(async () => {
  registry = await startFakeRegistry();
  registry.addImage("app", "latest", [writeTar([{ path: "f", content: "x" }])], { config: { Cmd: ["/f"] } });
  image = `${registry.host}/app`;
  dataDir = join(await scratchDirectory("req"), "data");
  env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host };
  await using first = await startBerthd({ dataDir, env });
  expect((await first.client.pullImage({ query: long, body: { reference: image } })).operation.error).toBeNull();
});

afterAll(() => registry?.[Symbol.asyncDispose]());

beforeEach(async () => {
  berthd = await startBerthd({ dataDir, env });
});

afterEach(async () => {
  const { client } = berthd;
  for (const { id } of (await client.listInstances({ query: {} })).items)
    await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
  await audit(client, dataDir);
  await berthd.stop();
});

function create(asked: Partial<CreateInstanceInput> = {}, query: { wait?: number } = long) {
  return berthd.client.createInstance({ query, body: { image, name, ...asked } });
}

const names = async () => (await berthd.client.listInstances({ query: {} })).items.map((one) => one.name);
const statusNow = async () => (await berthd.client.getInstance({ params })).status;

/** What hangs while it starts, until it is cancelled. */
const hanging = { labels: { "berth.fake/start-block": "forever" } };

/** Until the operation is at a step. */
const reaches = (operation: string, step: string) =>
  eventually(async () => {
    const { steps } = await berthd.client.getOperation({ params: { operation } });
    expect(steps.at(-1)?.name).toBe(step);
  });

describe("more than the node has", () => {
  it("of memory or CPUs is refused, with what there is", async () => {
    const [node] = (await berthd.client.listNodes()).items;
    const { cpus = 0, memoryMib = 0 } = node ?? {};
    await expectRefused(create({ cpus: cpus + 1 }), "not_enough_resources", `the node has ${cpus}.`);
    const tooMuch = create({ memoryMib: memoryMib + 1 });
    await expectRefused(tooMuch, "not_enough_resources", `the node has ${memoryMib} MiB`);
    await expectRefused(create({ memoryMib: 95 }), "invalid_request", "must be at least 96");
    expect(await names()).toEqual([]);
  });
});

describe("a port", () => {
  it("that another instance has is refused by name, and the other goes on", async () => {
    const ports = [{ hostPort: await freePort(), guestPort: 80 }];
    await create({ ports });
    await expectFailed(create({ name: "other", ports }), "port_taken", `Port ${ports[0]?.hostPort}`);
    expect(await names()).toEqual([name]);
    expect(await statusNow()).toMatchObject({ phase: "running", ready: true });
  });

  it("asked for twice is refused at once", async () => {
    const port = { hostPort: await freePort(), guestPort: 80 };
    await expectRefused(create({ ports: [port, { ...port, guestPort: 81 }] }), "port_taken", `${port.hostPort}`);
    expect(await names()).toEqual([]);
  });
});

describe("a change", () => {
  it("of what has changed since is refused by If-Match, and nothing happens", async () => {
    const { generation } = (await create()).instance;
    const { client } = berthd;
    const { instance } = await client.stopInstance({ params, query: long });
    expect(instance.generation).toBeGreaterThan(generation);
    const stale = client.startInstance({ params }, { ifMatch: generation });
    await expectRefused(stale, "precondition_failed", `${instance.generation}`);
    expect((await statusNow()).phase).toBe("stopped");
    const fitting = await client.startInstance({ params, query: long }, { ifMatch: instance.generation });
    expect(fitting.operation.error).toBeNull();
  });

  it("of what is held names the holder, or waits its turn with ?queue=true", async () => {
    const { operation: holder } = await create(hanging, {});
    const { client } = berthd;
    const refusal = client.startInstance({ params });
    await expectRefused(refusal, "busy", holder.id);
    const problem = await refusal.catch((error) => error.problem);
    expect(problem.operationId).toBe(holder.id);
    await reaches(holder.id, "start-machine");
    const { operation: queued } = await client.deleteInstance({ params, query: { force: true, queue: true } });
    expect((await client.waitOperation({ params: { operation: queued.id } })).status).toBe("succeeded");
    expect((await client.getOperation({ params: { operation: holder.id } })).status).toBe("cancelled");
  });

  it("queued behind another one goes after it", async () => {
    await create({ labels: { "berth.fake/start-block": "300" }, start: false });
    const { client } = berthd;
    const { operation: first } = await client.startInstance({ params });
    const { operation: second } = await client.stopInstance({ params, query: { queue: true } });
    expect(second.status).toBe("pending");
    const ends = await Promise.all(
      [first, second].map(({ id }) => client.waitOperation({ params: { operation: id }, query: { timeout: 30 } })),
    );
    expect(ends.map(({ status }) => status)).toEqual(["succeeded", "succeeded"]);
    expect(Date.parse(ends[1]?.startedAt ?? "")).toBeGreaterThanOrEqual(Date.parse(ends[0]?.endedAt ?? ""));
    expect((await statusNow()).phase).toBe("stopped");
  });

  it("by force cancels the holder: a stop of what hangs as it starts", async () => {
    await create({ ...hanging, start: false });
    const { client } = berthd;
    const { operation: holder } = await client.startInstance({ params });
    await reaches(holder.id, "start-machine");
    await expectRefused(client.stopInstance({ params }), "busy", holder.id);
    const { operation } = await client.stopInstance({ params, query: { ...long, force: true } });
    expect(operation.error).toBeNull();
    const ended = await client.getOperation({ params: { operation: holder.id } });
    expectProblem(ended.error, "cancelled", "instance.start");
    expect((await statusNow()).phase).toBe("stopped");
  });

  it("by force cancels the holder: a delete of what hangs as it is made", async () => {
    const { operation: holder } = await create(hanging, {});
    await reaches(holder.id, "start-machine");
    const { client } = berthd;
    const { operation } = await client.deleteInstance({ params, query: { ...long, force: true } });
    expect(operation.error).toBeNull();
    expect((await client.getOperation({ params: { operation: holder.id } })).status).toBe("cancelled");
    expect(await names()).toEqual([]);
  });
});

describe("an Idempotency-Key", () => {
  it("makes one of a request repeated after a kill -9 and a restart", async () => {
    const key = { idempotencyKey: "the-same" };
    const ask = () => berthd.client.createInstance({ body: { image, name, start: false } }, key);
    const first = await ask();
    await berthd.kill();
    berthd = await startBerthd({ dataDir, env });
    const again = await ask();
    expect([again.instance.id, again.operation.id]).toEqual([first.instance.id, first.operation.id]);
    const other = berthd.client.createInstance({ body: { image, name: "other" } }, key);
    await expectRefused(other, "idempotency_mismatch", /./);
    expect(await names()).toEqual([name]);
    const { status } = await berthd.client.waitOperation({ params: { operation: first.operation.id } });
    expect(status).toBe("succeeded");
  });
});

describe("anything at all", () => {
  const nasty = fc.oneof(
    fc.string({ unit: "binary", maxLength: 40 }),
    fc.constantFrom("", "..", "a/b", "%00", "'; drop table instance; --", "$(id)", "x".repeat(400)),
  );
  const bodies = fc.oneof(
    fc.json(),
    fc.string({ unit: "binary" }),
    fc
      .record(
        { name: nasty, cpus: fc.nat(), memoryMib: fc.nat(), env: fc.dictionary(nasty, nasty) },
        { requiredKeys: [] },
      )
      .map((body) => JSON.stringify({ image, start: false, ...body })),
  );
  const requests = fc.record({
    method: fc.constantFrom("GET", "POST", "PUT", "DELETE", "PATCH"),
    path: fc.oneof(
      nasty.map((text) => `/api/v1/instances/${encodeURIComponent(text)}`),
      nasty.map((text) => `/api/v1/${text}`),
      nasty.map((text) => `/api/v1/operations?cursor=${encodeURIComponent(text)}&limit=${encodeURIComponent(text)}`),
      fc.constantFrom("/api/v1/instances", "/api/v1/images/build", "/api/v1/events/stream?after=x", "/docs"),
    ),
    headers: fc.dictionary(
      fc.constantFrom("if-match", "idempotency-key", "content-type", "accept", "last-event-id", "x-any"),
      fc.string({ maxLength: 50 }).filter((text) => /^[\x20-\x7e]*$/.test(text)),
    ),
    body: bodies,
  });

  it("is answered as it should be by the real daemon, which goes on", async () => {
    await fc.assert(
      fc.asyncProperty(requests, async ({ method, path, headers, body }) => {
        const response = await fetch(new URL(path, berthd.url).href.replace(/^http:\/\/[^/]+/, berthd.url), {
          method,
          headers: { authorization: `Bearer ${berthd.token}`, "content-type": "application/json", ...headers },
          ...(method === "GET" ? {} : { body }),
          signal: AbortSignal.timeout(20_000),
        });
        expect(response.status, `${method} ${path}`).toBeLessThan(500);
        const text = await response.text();
        if (response.status < 400) return;
        expect(Object.keys(errorCatalogue)).toContain(JSON.parse(text).code);
      }),
      { numRuns: 200, interruptAfterTimeLimit: 30_000 },
    );
    expect((await berthd.client.listNodes()).items).toHaveLength(1);
  });
});
