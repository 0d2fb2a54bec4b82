import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Client, Operation } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { writeTar } from "../../packages/daemon/src/core/testing/tar-writer.ts";
import { World } from "../../packages/daemon/src/drivers/fake/world.ts";
import { localFiles } from "../../packages/daemon/src/host/files.ts";
import { type FakeRegistry, startFakeRegistry } from "../../packages/daemon/src/images/testing/fake-registry.ts";
import { listFaultPoints } from "../../packages/daemon/src/operations/fault.ts";

import { allWorkflows } from "../../packages/daemon/src/workflows/index.ts";
import type { Services } from "../../packages/daemon/src/workflows/services.ts";
import { audit } from "../faults/audit.ts";
import { sendAgain } from "../faults/scenarios.ts";
import { startBerthd } from "../support/berthd.ts";
import { expectProblem } from "../support/refusals.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";

/** Steps are only named here, never run: what they would work with is not needed. */
const nobody = new Proxy({}, { get: () => undefined }) as Services;
const types = ["instance.create", "instance.start", "instance.export", "instance.import", "image.pull", "image.build"];
const points = listFaultPoints(allWorkflows(nobody)).filter(
  (point) => types.includes(point.split("/")[0] ?? "") && !/\/(undo|settle)\//.test(point),
);

const long = { wait: 60 } as const;
const name = "victim";
const params = { instance: name };

let registry: FakeRegistry;
let scratch: string;
let dataDir: string;
let env: Record<string, string>;

beforeAll(async () => {
  registry = await startFakeRegistry();
  scratch = await scratchDirectory("cnc");
  dataDir = join(scratch, "data");
  env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn", BERTH_ALLOW_HOSTS: registry.host };
  addImage("known");
  await using berthd = await startBerthd({ dataDir, env });
  const { operation } = await berthd.client.pullImage({ query: long, body: { reference: `${registry.host}/known` } });
  expect(operation.error).toBeNull();
});

afterAll(() => registry?.[Symbol.asyncDispose]());

function addImage(repository: string): void {
  registry.addImage(repository, "latest", [writeTar([{ path: "f", content: randomBytes(1000) }])], {
    config: { Cmd: ["/f"] },
  });
}

const fresh = () => `${registry.host}/fresh`;
const built = "localhost/built:latest";

/** Asks for what passes a point; what that needs to be missing is taken away before. */
async function begin(client: Client, point: string): Promise<Operation> {
  const [type, step] = point.split("/");
  const image = `${registry.host}/known`;
  if (type === "image.pull") {
    addImage("fresh");
    return (await client.pullImage({ body: { reference: fresh() } })).operation;
  }
  if (type === "image.build") {
    const path = join(scratch, "context");
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "file"), randomBytes(1000));
    writeFileSync(join(path, "Dockerfile"), "FROM scratch\nCOPY file /\n");
    return (await client.buildImage({ body: { reference: built, source: { type: "directory", path } } })).operation;
  }
  const body = { image, name, ports: [{ guestPort: 80 }] };
  if (type === "instance.create") {
    if (step === "realise-image") rmSync(join(dataDir, "artifacts"), { recursive: true, force: true });
    return (await client.createInstance({ body })).operation;
  }
  const { instance } = await client.createInstance({ query: long, body: { ...body, start: false } });
  if (type === "instance.import") {
    const archive = await sendAgain(client);
    await client.deleteInstance({ params, query: long });
    return (await client.importInstance({ params: { archive }, body: {} })).operation;
  }
  if (type === "instance.export") return (await client.exportInstance({ params })).operation;
  if (step === "realise-image") rmSync(join(dataDir, "artifacts"), { recursive: true, force: true });
  const world = new World(localFiles, join(dataDir, "fake"), 0);
  for (const { id, owner } of await world.readAll())
    if (step === "create-machine" && owner.instanceId === instance.id) await world.change(id, () => null);
  return (await client.startInstance({ params })).operation;
}

/** What there is after the end: as if nothing had been asked. */
async function check(client: Client, point: string): Promise<void> {
  const { items } = await client.listInstances({ query: {} });
  const seen = items.map(({ status }) => ({ phase: status.phase, ready: status.ready }));
  const stays = /^instance\.(start|export)/.test(point);
  expect(seen).toEqual(stays ? [{ phase: "stopped", ready: false }] : []);
  const archives = (await client.listArchives({ query: {} })).items;
  expect(archives.map(({ state }) => state)).toEqual(point.startsWith("instance.import") ? ["ready"] : []);
  for (const reference of [fresh(), built])
    expect((await client.listImages({ query: { reference } })).items).toEqual([]);
  expect((await client.listImages({ query: { reference: `${registry.host}/known` } })).items).toHaveLength(1);
}

describe.each(points)("cancelled at %s", (point) => {
  it("is undone, and nothing is left", async () => {
    await using berthd = await startBerthd({ dataDir, env: { ...env, BERTH_FAULT: `pause:${point}` } });
    const { client } = berthd;
    const said = berthd.log().length;
    const { id } = await begin(client, point);
    await vi.waitFor(() => expect(berthd.log().slice(said)).toContain(`paused at ${point}`), 30_000);
    await client.cancelOperation({ params: { operation: id } });
    const ended = await client.waitOperation({ params: { operation: id }, query: { timeout: 30 } });
    expect(ended.status).toBe("cancelled");
    expectProblem(ended.error, "cancelled", "was cancelled");
    await settled(client);
    await vi.waitFor(() => check(client, point), 5_000);
    if (!point.startsWith("instance.start/create-machine")) await audit(client, dataDir);
    for (const { id: archive } of (await client.listArchives({ query: {} })).items)
      await client.deleteArchive({ params: { archive }, query: long });
    for (const instance of (await client.listInstances({ query: {} })).items)
      await client.deleteInstance({ params: { instance: instance.id }, query: { ...long, force: true } });
    await audit(client, dataDir);
  });
});
