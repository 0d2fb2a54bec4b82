import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Client, isFinal, type Operation } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { buildahIn } from "../../packages/daemon/src/images/testing/buildah.ts";
import { type DockerRegistry, startDockerRegistry } from "../../packages/daemon/src/images/testing/docker-registry.ts";
import { listFaultPoints } from "../../packages/daemon/src/operations/fault.ts";

import { allWorkflows } from "../../packages/daemon/src/workflows/index.ts";
import { mergePoints } from "../../packages/daemon/src/workflows/merge-layers.ts";
import type { Services } from "../../packages/daemon/src/workflows/services.ts";
import { startPoints } from "../../packages/daemon/src/workflows/steps/start-machine.ts";
import { startBerthd } from "../support/berthd.ts";
import { startDaemonHere } from "../support/daemon-here.ts";
import { freePort } from "../support/ports.ts";
import { storeSettings } from "../support/postgres.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { audit } from "./audit.ts";
import { resuming, type Scenario, type Surroundings, scenarioOf } from "./scenarios.ts";

/** Steps are only named here, never run: what they would work with is not needed. */
const nobody = new Proxy({}, { get: () => undefined }) as Services;
const points = [...listFaultPoints(allWorkflows(nobody)), ...mergePoints, ...startPoints];

/** A start of what is suspended passes most points of any start otherwise; whether it has to be waited for is a matter of chance. */
const resumed = points.filter((point) => /^instance\.start\/(start-machine|settle)\//.test(point));
const resume = (point: string, surroundings: Surroundings): Scenario => {
  const [, step = "", side] = point.split("/");
  return resuming(surroundings, step, side === "undo");
};
const cases: [string, string, typeof resume][] = [
  ...points.map((point): [string, string, typeof resume] => [point, point, scenarioOf]),
  ...resumed.map((point): [string, string, typeof resume] => [`${point}, suspended before`, point, resume]),
];

const stores = ["sqlite", "postgres"] as const;
type StoreKind = (typeof stores)[number];

let registry: DockerRegistry;
let context: string;
/** Data folders that nothing went wrong in: a point whose test fails takes its own along, so that the others' say what they find themselves. */
const worlds = new Map<StoreKind, { dataDir: string; env: Record<string, string> }>();

beforeAll(async () => {
  const scratch = await scratchDirectory("faults");
  context = join(scratch, "context");
  await mkdir(context);
  writeFileSync(join(context, "Dockerfile"), "FROM scratch\nCOPY hello /hello\n");
  writeFileSync(join(context, "hello"), "hello\n");
  const host = localHost();
  registry = await startDockerRegistry(host, join(scratch, "registry"), await freePort());
  const buildah = buildahIn(host, join(scratch, "buildah"));
  await mkdir(join(scratch, "buildah"));
  const container = await buildah.run("from", "scratch");
  await buildah.run("copy", container, join(context, "hello"), "/hello");
  await buildah.run("config", "--cmd", "/hello", container);
  await buildah.run("commit", "--quiet", container, "pulled");
  await buildah.run("push", "--quiet", "--tls-verify=false", "pulled", `docker://${registry.host}/pulled:latest`);
  await buildah.run("config", "--volume", "/data", container);
  await buildah.run("commit", "--quiet", container, "volumes");
  await buildah.run("push", "--quiet", "--tls-verify=false", "volumes", `docker://${registry.host}/volumes:latest`);
});

afterAll(async () => {
  await registry?.[Symbol.asyncDispose]();
});

async function makeWorld(kind: StoreKind) {
  const dataDir = join(await scratchDirectory("world"), kind);
  const store = await storeSettings(kind);
  const env = { BERTH_DRIVER: "fake", BERTH_ALLOW_HOSTS: registry.host, BERTH_LOG_LEVEL: "warn", ...store };
  await using berthd = await startDaemonHere({ dataDir, env });
  await pull(berthd.client, `${registry.host}/pulled`);
  return { dataDir, env };
}

async function pull(client: Client, reference: string): Promise<void> {
  const { operation } = await client.pullImage({ query: { wait: 60 }, body: { reference } });
  expect(operation.error).toBeNull();
}

/** Resolves when nothing is left to be done. */
async function settled(client: Client): Promise<readonly Operation[]> {
  for (;;) {
    const { items } = await client.listOperations({ query: { unfinished: true } });
    const [next] = items;
    if (!next) return (await client.listOperations({ query: { limit: 20 } })).items;
    await client.waitOperation({ params: { operation: next.id }, query: { timeout: 20 } });
  }
}

it("names a point before and after every step, every undo, every end, every part of a merge, and within a start", () => {
  expect(points.length).toBeGreaterThan(60);
  expect(new Set(points).size).toBe(points.length);
});

describe.each(cases)("killed at %s", (_, point, arrange) => {
  it("finishes or undoes by itself, with nothing lost or left, on both stores", async () => {
    await Promise.all(
      stores.map(async (kind) => {
        const world = worlds.get(kind) ?? (await makeWorld(kind));
        worlds.delete(kind);
        const { dataDir, env } = world;
        const image = `${registry.host}/pulled`;
        const scenario = arrange(point, { image, context, dataDir });
        {
          const faults = [point, ...(scenario.failsAt ? [`fail:${scenario.failsAt}`] : [])];
          await using berthd = await startBerthd({ dataDir, env: { ...env, BERTH_FAULT: faults.join(",") } });
          await scenario.arrange(berthd.client);
          // The answer may be lost with the daemon.
          await scenario.act(berthd.client).catch(() => undefined);
          expect(await berthd.ended).toBe("SIGKILL");
        }
        await using berthd = await startDaemonHere({ dataDir, env });
        const operations = await settled(berthd.client);
        for (const operation of operations) expect(isFinal(operation.status)).toBe(true);
        await scenario.check(berthd.client);
        await audit(berthd.client, dataDir);
        await scenario.cleanUp(berthd.client);
        await audit(berthd.client, dataDir);
        worlds.set(kind, world);
      }),
    );
  });
});

describe("the audit itself", () => {
  it("fails when something is left behind", async () => {
    const { dataDir, env } = worlds.get("sqlite") ?? (await makeWorld("sqlite"));
    await using berthd = await startDaemonHere({ dataDir, env });
    const left = join(dataDir, "instances", "i-0123456789abcdef0");
    await mkdir(left, { recursive: true });
    await expect(audit(berthd.client, dataDir)).rejects.toThrow("i-0123456789abcdef0");
    rmSync(left, { recursive: true });
    await audit(berthd.client, dataDir);
    expect(readdirSync(join(dataDir, "tmp"))).toEqual([]);
  });
});
