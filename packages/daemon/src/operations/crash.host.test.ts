import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { createDatabase } from "../../../../test/support/postgres.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { type ToyDaemonSettings, toySteps, toyWorkflow } from "../../../../test/support/toy-daemon.ts";
import { newId } from "../core/ids.ts";
import { readEvents } from "../store/events.ts";
import { listOperations, readOperation, resourceOf } from "../store/operations.ts";
import { openStore, type Store, type StoreLocation } from "../store/store.ts";
import { listFaultPoints } from "./fault.ts";
import { startOperation } from "./start.ts";
import { waitForOperation } from "./wait.ts";
import type { Json } from "./workflow.ts";

const daemonScript = join(import.meta.dirname, "../../../../test/support/toy-daemon.ts");
const never = new AbortController().signal;
const daemons = new Set<ChildProcess>();
afterEach(async () => {
  await Promise.all([...daemons].map(kill));
});

const places: [string, (folder: string) => Promise<StoreLocation>][] = [
  ["SQLite", async (folder) => ({ kind: "sqlite", path: join(folder, "berth.db") })],
  ["PostgreSQL", async () => ({ kind: "postgres", url: await createDatabase() })],
];

describe.each(places)("a daemon on %s killed at any moment", (_name, place) => {
  test("finishes everything, each effect once, the operations of one object one after the other", async () => {
    const { store, settings, world } = await prepare(place);
    const machines = Array.from({ length: 15 }, () => newId("instance"));
    const asked: { id: string; machine: string; input: Json }[] = [];
    for (const input of [null, "three", null]) {
      for (const machine of machines) asked.push({ id: await ask(store, machine, { input }), machine, input });
    }
    const restarts = await killUntilDone(store, settings);
    expect(restarts).toBeGreaterThan(5);

    const lines = readLog(world);
    for (const { id, input } of asked) {
      const operation = await readOperation(store.queries, id);
      expect(operation?.status).toBe(input === null ? "succeeded" : "failed");
      for (const step of toySteps) expect(existsSync(join(world, `${id}.${step}`))).toBe(input === null);
      for (const step of toySteps) {
        const made = lines.filter((line) => line === `made ${id} ${step}`).length;
        // Killed between making it and noting it, or undone and never to be made again.
        expect(made).toBeLessThanOrEqual(1);
      }
    }
    for (const machine of machines)
      expectInTurn(
        lines,
        asked.filter((one) => one.machine === machine),
      );
    // Beyond the first run of a step there are the 5 % that stumble, and at most what ran in the 8 slots at each kill.
    const runs = lines.filter((line) => line.startsWith("run ")).length;
    const least = asked.reduce((sum, { input }) => sum + (input === null ? 4 : 3), 0);
    expect(runs).toBeLessThan(least * 1.3 + restarts * 8);
    // Events went with their transactions, whichever of them were killed.
    const { items } = await readEvents(store.queries, { after: 0, limit: 10_000 });
    expect(items.map(({ seq }) => seq)).toEqual(items.map((_, index) => index + 1));
    for (const type of ["created", "started"])
      expect(items.filter((one) => one.type === `operation.${type}`)).toHaveLength(asked.length);
    await store.close();
  });

  test("at each fault point goes on by itself when it is started again", async () => {
    const { store, settings, world } = await prepare(place);
    const points = listFaultPoints([toyWorkflow(world)]);
    expect(points).toHaveLength(4 * 2 + 4 * 2 + 2);
    const asked: { id: string; input: Json }[] = [];
    for (const fault of points) {
      // The points of undo are passed by one that fails in its last step. Those killed before are taken up again by the next daemon, to be killed once more.
      const input = fault.includes("/undo/") ? "four" : null;
      asked.push({ id: await ask(store, newId("instance"), { input }), input });
      const [code, signal] = await ending(await start({ ...settings, fault }));
      expect([fault, code, signal]).toEqual([fault, null, "SIGKILL"]);
    }
    await start(settings);
    for (const { id, input } of asked) {
      const operation = await waitForOperation(store, id, 20_000, never);
      expect(operation.status).toBe(input === null ? "succeeded" : "failed");
      for (const step of toySteps) expect(existsSync(join(world, `${id}.${step}`))).toBe(input === null);
    }
    await store.close();
  });
});

test("when a node never comes back, another takes over what any node may run, and only that", async () => {
  const { store, settings } = await prepare(async () => ({ kind: "postgres", url: await createDatabase() }));
  const [dead, alive] = [newId("node"), newId("node")];
  const free: string[] = [];
  const bound: string[] = [];
  for (let index = 0; index < 20; index++) {
    free.push(await ask(store, newId("instance"), {}));
    bound.push(await ask(store, newId("instance"), { nodeId: dead }));
  }
  const doomed = await start({ ...settings, nodeId: dead });
  await start({ ...settings, nodeId: alive });
  await untilBegun(store, dead);
  await kill(doomed);
  for (const id of free) expect((await waitForOperation(store, id, 20_000, never)).status).toBe("succeeded");
  const left = await Promise.all(bound.map((id) => readOperation(store.queries, id)));
  expect(left.filter((operation) => operation?.endedAt === null).length).toBeGreaterThan(0);
  await start({ ...settings, nodeId: dead });
  for (const id of bound) expect((await waitForOperation(store, id, 20_000, never)).status).toBe("succeeded");
  await store.close();
});

async function prepare(place: (folder: string) => Promise<StoreLocation>) {
  const folder = await scratchDirectory("crash");
  const world = join(folder, "world");
  mkdirSync(world);
  const location = await place(folder);
  const settings: ToyDaemonSettings = { location, world, nodeId: newId("node"), leaseMs: 1500 };
  return { store: await openStore(location), settings, world };
}

function ask(store: Store, machine: string, change: { input?: Json; nodeId?: string }): Promise<string> {
  const target = { kind: "instance", id: machine, name: "web" };
  const claims = [resourceOf("instance", machine)];
  const request = {
    type: "toy",
    project: "default",
    target,
    claims,
    input: null,
    nodeId: null,
    queue: true,
    requestedBy: "test",
  };
  return store.transaction(async (tx) => (await startOperation(tx, { ...request, ...change })).id);
}

async function start(settings: ToyDaemonSettings): Promise<ChildProcess> {
  const daemon = spawn(process.execPath, [daemonScript, JSON.stringify(settings)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  daemons.add(daemon);
  daemon.once("exit", () => daemons.delete(daemon));
  await Promise.race([once(daemon.stdout ?? daemon, "data"), once(daemon, "exit")]);
  return daemon;
}

/** The exit code and the signal a daemon ended with. */
async function ending(daemon: ChildProcess): Promise<readonly [number | null, string | null]> {
  if (daemon.exitCode === null && daemon.signalCode === null) await once(daemon, "exit");
  return [daemon.exitCode, daemon.signalCode];
}

async function kill(daemon: ChildProcess): Promise<void> {
  daemon.kill("SIGKILL");
  await ending(daemon);
}

/** Starts the daemon and kills it, again and again, each time a little later, until nothing is left to do. */
async function killUntilDone(store: Store, settings: ToyDaemonSettings): Promise<number> {
  const unfinished = async () => (await listOperations(store.queries, { unfinished: true, limit: 1 })).rows.length > 0;
  let restarts = 0;
  while (await unfinished()) {
    const daemon = await start(settings);
    restarts += 1;
    // The first few die when they have hardly begun.
    await delay(Math.random() * (restarts <= 5 ? 40 : restarts * 150));
    await kill(daemon);
  }
  return restarts;
}

async function untilBegun(store: Store, nodeId: string): Promise<void> {
  for (;;) {
    const rows = await store.queries.selectFrom("operation").select("id").where("lease_owner", "=", nodeId).execute();
    if (rows.length > 0) return;
    await delay(5);
  }
}

function readLog(world: string): string[] {
  return readFileSync(join(world, "log"), "utf8").trim().split("\n");
}

/** No operation on an object begins before the one asked for earlier has ended. */
function expectInTurn(lines: readonly string[], operations: readonly { readonly id: string }[]): void {
  const spans = operations.map(({ id }) => {
    const mine = lines.flatMap((line, index) => (line.split(" ")[1] === id ? [index] : []));
    return [Math.min(...mine), Math.max(...mine)] as const;
  });
  for (const [index, [first]] of spans.entries()) {
    const before = spans[index - 1];
    if (before) expect(first).toBeGreaterThan(before[1]);
  }
}
