import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import type { Client, CreateInstanceInput, Instance } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { listFaultPoints } from "../../packages/daemon/src/operations/fault.ts";
import { instanceWorkflows } from "../../packages/daemon/src/workflows/instance.ts";
import type { Services } from "../../packages/daemon/src/workflows/services.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { freePort } from "../support/ports.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";
import { accelerated, auditQemu, removeRules } from "./audit-qemu.ts";

/** Steps are only named here, never run: what they would work with is not needed. */
const nobody = new Proxy({}, { get: () => undefined }) as Services;
const verbs = ["create", "start", "stop", "delete"] as const;
type Verb = (typeof verbs)[number];
/**
 * What these do is the same whatever the hypervisor is (every-point.test.ts passes them), or is passed only by those who sleep or begin from a pool or template: on real machines they
 * have tests of their own.
 */
const apart: readonly string[] = [
  ...["plan-disks", "forget-snapshots", "collect-layers"],
  ...["take-over", "request-template", "drop-memory", "give-back-ports"],
];
const points = listFaultPoints(instanceWorkflows(nobody)).filter(
  (point) => verbs.includes(verbOf(point)) && !apart.includes(stepOf(point)),
);

function verbOf(point: string): Verb {
  return point.slice("instance.".length, point.indexOf("/")) as Verb;
}

function stepOf(point: string): string {
  return point.split("/")[1] ?? "";
}

const isUndo = (point: string) => point.split("/")[2] === "undo";

/**
 * The points of the way forward, spread over as few machines as they need: each life of one is killed at a point of its create, start, stop and delete.
 * Only a create that is killed at its last steps boots a guest.
 */
function spread(): string[][] {
  const forward = (verb: Verb) => points.filter((point) => verbOf(point) === verb && !isUndo(point));
  const boots = (point: string) => ["start-machine", "await-ready"].includes(stepOf(point));
  const creates = { off: forward("create").filter((point) => !boots(point)), on: forward("create").filter(boots) };
  const stops = forward("stop");
  const deletes = forward("delete");
  const lives = [
    ...forward("start").map((start) => [creates.off.shift(), start, deletes.shift() ?? stops.shift()]),
    ...creates.on.map((create) => [create, stops.shift()]),
  ];
  return lives.map((life) => life.filter((point) => point !== undefined));
}

const lives = spread();
const undos = points.filter(isUndo);

const name = "victim";
const instance = { instance: name };
const long = { wait: 120 } as const;

let dataDir: string;
const env = { BERTH_LOG_LEVEL: "warn" };

beforeAll(async () => {
  const scratch = await scratchDirectory("qemu");
  dataDir = join(scratch, "data");
  await using berthd = await startBerthd({ dataDir, env });
  await buildBusybox(berthd.client, scratch);
  await accelerated(dataDir);
});

afterAll(() => removeRules(dataDir));

async function create(client: Client, asked: Partial<CreateInstanceInput>): Promise<Instance> {
  const body = { image: busyboxImage, name, memoryMib: 128, ports: [{ guestPort: 80 }], ...asked };
  const { instance: made, operation } = await client.createInstance({ query: long, body });
  expect(operation.error).toBeNull();
  return made;
}

async function remove(client: Client): Promise<void> {
  for (const { id } of (await client.listInstances({ query: {} })).items) {
    const { operation } = await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
    expect(operation.error).toBeNull();
  }
}

/** Asks for what leads to a point; what that needs to be missing is taken away before. */
async function act(client: Client, point: string): Promise<unknown> {
  const step = stepOf(point);
  if (step === "realise-image") rmSync(join(dataDir, "artifacts"), { recursive: true, force: true });
  switch (verbOf(point)) {
    case "create":
      return create(client, { start: step === "start-machine" || step === "await-ready" });
    case "start": {
      const { id } = await client.getInstance({ params: instance });
      if (step === "create-machine") rmSync(join(dataDir, "instances", id, "machine.json"));
      return client.startInstance({ params: instance, query: long });
    }
    case "stop":
      return client.stopInstance({ params: instance, query: { ...long, force: step === "power-off" } });
    case "delete":
      return client.deleteInstance({ params: instance, query: { ...long, force: true } });
  }
}

/** The daemon killed at a point has done by itself what it was asked: the operation succeeded, and the instance is as wished. */
async function check(berthd: Berthd, point: string): Promise<void> {
  const { client } = berthd;
  const [latest] = await settled(client);
  expect(latest).toMatchObject({ type: `instance.${verbOf(point)}`, status: "succeeded" });
  const [seen, ...others] = (await client.listInstances({ query: {} })).items;
  expect(others).toEqual([]);
  if (verbOf(point) === "delete") expect(seen).toBeUndefined();
  else if (seen?.spec.power === "running") {
    expect(seen.status).toMatchObject({ phase: "running", ready: true });
    const { hostPort } = seen.status.ports[0] ?? { hostPort: 0 };
    expect((await fetch(`http://127.0.0.1:${hostPort}/bin/busybox`, { method: "HEAD" })).status).toBe(200);
  } else expect(seen?.status).toMatchObject({ phase: "stopped", ready: false });
  await auditQemu(client, dataDir, berthd.pid);
}

/** Starts berthd so that it dies at a point, has that point passed, and waits for its death. */
async function dieAt(berthd: Berthd, point: string): Promise<void> {
  // The answer may be lost with the daemon.
  await act(berthd.client, point).catch(() => undefined);
  expect(await berthd.ended, `killed at ${point}`).toBe("SIGKILL");
}

it("every point of create, start, stop and delete is passed in one of the lives", () => {
  expect([...lives.flat(), ...undos].sort()).toEqual([...points].sort());
});

describe.each(lives.map((life) => ({ life, title: life.join(", then at ") })))("killed at $title", ({ life }) => {
  it("finishes by itself, with nothing lost or left", async () => {
    let berthd = await startBerthd({ dataDir, env: { ...env, BERTH_FAULT: life[0] ?? "" } });
    try {
      for (const [index, point] of life.entries()) {
        await dieAt(berthd, point);
        berthd = await startBerthd({ dataDir, env: { ...env, BERTH_FAULT: life[index + 1] ?? "" } });
        await check(berthd, point);
      }
      await remove(berthd.client);
      await auditQemu(berthd.client, dataDir, berthd.pid);
    } finally {
      await berthd.stop();
    }
  });
});

describe.each(undos)("killed at %s", (point) => {
  it("undoes by itself, with nothing lost or left", async () => {
    await using foreign = await listenOn(await freePort());
    const ports = [{ hostPort: foreign.port, guestPort: 80 }];
    {
      await using berthd = await startBerthd({ dataDir, env: { ...env, BERTH_FAULT: point } });
      const { client } = berthd;
      if (verbOf(point) === "start") await create(client, { ports, start: false });
      const asked =
        verbOf(point) === "start" ? client.startInstance({ params: instance, query: long }) : create(client, { ports });
      await asked.catch(() => undefined);
      expect(await berthd.ended).toBe("SIGKILL");
    }
    await using berthd = await startBerthd({ dataDir, env });
    const { client } = berthd;
    const [latest] = await settled(client);
    expect(latest).toMatchObject({ status: "failed", error: { code: "port_taken" } });
    const { items } = await client.listInstances({ query: {} });
    const left = items.map(({ status }) => ({ phase: status.phase, ready: status.ready }));
    expect(left).toEqual(verbOf(point) === "start" ? [{ phase: "failed", ready: false }] : []);
    await auditQemu(client, dataDir, berthd.pid);
    await remove(client);
    await auditQemu(client, dataDir, berthd.pid);
  });
});

/** A program that is not Berth's on a port. */
async function listenOn(port: number): Promise<AsyncDisposable & { readonly port: number }> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return {
    port,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}
