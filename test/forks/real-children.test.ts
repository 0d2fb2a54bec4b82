import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Client, Instance } from "@berth/api";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findKit } from "../../packages/daemon/src/guest/kit/find-kit.ts";
import { unprotectedKit } from "../../packages/daemon/src/guest/testing/unprotected-kit.ts";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { accelerated, auditQemu, removeRules } from "../faults/audit-qemu.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { berthOf } from "../support/run-berth.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { buildLedger, consoleOf, foundIn, ledgerImage } from "./ledger-image.ts";

const long = { wait: 300 } as const;
const parent = { instance: "ledger" };
const facts = ["hook random", "program random", "hostname", "machine-id", "mac", "host key"] as const;
type Identity = Readonly<Record<(typeof facts)[number], string>>;

async function launchParent(client: Client): Promise<Instance> {
  const body = { image: ledgerImage, name: parent.instance, memoryMib: 96, warm: "never" } as const;
  const { instance, operation } = await client.createInstance({ query: long, body });
  expect(operation.error).toBeNull();
  return instance;
}

function identityIn(log: string, dataDir: string, id: string): Identity {
  const keys = JSON.parse(readFileSync(join(dataDir, "instances", id, "channel-keys.json"), "utf8"));
  const said = facts.map((fact) => [fact, new RegExp(`^${fact} (\\S+)$`, "m").exec(log)?.[1] ?? ""] as const);
  return { ...(Object.fromEntries(said) as Identity), "host key": keys.hostKey };
}

/** How many of them are the same as an earlier one. */
function repeated(values: readonly string[]): number {
  return values.length - new Set(values).size;
}

async function remove(client: Client, instance: string): Promise<void> {
  const { operation } = await client.deleteInstance({ params: { instance }, query: { ...long, force: true } });
  expect(operation.error).toBeNull();
}

describe.each(whoRunsBerthd)("a database under write load, forked by a berthd run by $who", ({ ordinaryUser }) => {
  const count = 5;
  let dataDir: string;
  let berthd: Berthd;
  let client: Client;
  let children: readonly Instance[];
  let logs: readonly string[];
  let words: string;

  beforeAll(async () => {
    const scratch = await scratchDirectory("fork");
    dataDir = join(scratch, "data");
    berthd = await startBerthd({ dataDir, ordinaryUser, env: { BERTH_LOG_LEVEL: "warn" } });
    client = berthd.client;
    await buildLedger(client, scratch);
    await accelerated(dataDir);
    await launchParent(client);
    await consoleOf(client, "ledger", /^counted 200\r?$/m);
    const ran = await berthOf(berthd).run(["fork", "ledger", "--count", String(count)]);
    words = ran.stderr;
    expect([ran.code, ran.code === 0 ? "" : ran.stderr]).toEqual([0, ""]);
    const names = ran.stdout.trim().split("\n");
    children = await Promise.all(names.map((name) => client.getInstance({ params: { instance: name } })));
    logs = await Promise.all(names.map((name) => consoleOf(client, name, /^later memory .*$/m)));
  });

  afterAll(async () => {
    await berthd?.stop();
    if (!ordinaryUser) removeRules(dataDir);
  });

  it("gives children that run, in the order asked for; the parent stood still for a moment", async () => {
    expect(children.map(({ name }) => name)).toEqual(["ledger-1", "ledger-2", "ledger-3", "ledger-4", "ledger-5"]);
    for (const { status } of children)
      expect(status).toMatchObject({ phase: "running", ready: true, start: { mode: "forked" } });
    expect(words).toMatch(/^ledger stood still for \d{1,3} ms[.]$/m);
    // An ordinary user's machines are in namespaces of their own, which the audit does not look into.
    if (!ordinaryUser) await auditQemu(client, dataDir, berthd.pid);
  });

  it("each child's database is sound, and its counter in memory is the one on its disk, then and later", () => {
    const then = logs.map((log) => foundIn(log, "forked"));
    const [{ memory } = { memory: 0 }] = then;
    expect(memory).toBeGreaterThan(200);
    const sound = (number: number) => ({ memory: number, disk: number, entries: number, integrity: "ok" });
    expect(then).toEqual(children.map(() => sound(memory)));
    expect(logs.map((log) => foundIn(log, "later"))).toEqual(children.map(() => sound(memory + 20)));
  });

  it("the hook ran in each, before any of its programs went on", () => {
    for (const [index, log] of logs.entries()) {
      expect(log).toContain(`\nhook child ${index} of ledger is ledger-${index + 1}\n`);
      expect(log.match(/^hook child/gm)).toHaveLength(1);
      // What the parent's program had not got rid of may come first.
      expect(log.indexOf("\nhook child")).toBeLessThan(log.indexOf("program random"));
      expect(log).toContain(`"origin":{"kind":"fork","parent":{"id":"`);
    }
  });

  it.each(facts)("no two children have the same %s", (fact) => {
    const said = logs.map((log, at) => identityIn(log, dataDir, children[at]?.id ?? "")[fact]);
    for (const one of said) expect(one).toMatch(fact.endsWith("random") ? /^[0-9a-f]{2048}$/ : /./);
    expect(repeated(said)).toBe(0);
  });

  it("the parent writes on, and its database is sound; what nobody stands on goes with it and its children", async () => {
    const [, last = "0"] = /counted (\d+)\s*$/.exec(await consoleOf(client, "ledger", /counted/)) ?? [];
    await consoleOf(client, "ledger", new RegExp(`^counted ${Number(last) + 100}\r?$`, "m"));
    const { operation } = await client.stopInstance({ params: parent, query: long });
    expect(operation.error).toBeNull();
    const { memory, ...ended } = foundIn(await consoleOf(client, "ledger", /^ended memory/m), "ended");
    expect(memory).toBeGreaterThan(Number(last));
    expect(ended).toEqual({ disk: memory, entries: memory, integrity: "ok" });
    await remove(client, "ledger");
    // The guest lets in only who knows its own key, which the host pins; it has no such program.
    expect(await client.exec("ledger-3", { command: ["/no"] }).exit).toBe(127);
    // One boots from its disk: all that it wrote is there.
    const [first] = children;
    const restarted = await client.restartInstance({ params: { instance: first?.id ?? "" }, query: long });
    expect(restarted.operation.error).toBeNull();
    const { memory: written } = foundIn(logs[0] ?? "", "later");
    await consoleOf(client, first?.id ?? "", new RegExp(`^began with ${written}\r?$`, "m"));
    for (const { id } of children) await remove(client, id);
    await auditQemu(client, dataDir, berthd.pid);
  });
});

describe("without the reseed", () => {
  it("children repeat each other's random bytes", async () => {
    const host = localHost();
    const scratch = await scratchDirectory("same");
    const kit = await findKit(host, join(import.meta.dirname, "../../.tools/kit"));
    if (!kit) throw new Error("there is no guest kit: run npm test");
    await unprotectedKit(host, kit, scratch, "reseed");
    const dataDir = join(scratch, "data");
    await using berthd = await startBerthd({ dataDir, env: { BERTH_LOG_LEVEL: "warn", BERTH_KIT_DIR: scratch } });
    const { client } = berthd;
    try {
      await accelerated(dataDir);
      await buildLedger(client, scratch);
      await launchParent(client);
      await consoleOf(client, "ledger", /^counted 100\r?$/m);
      const said: string[] = [];
      // The kernel reseeds by itself now and then, from the time things take: what is shared ends there.
      for (let round = 0; round < 6 && repeated(said) === 0; round++) {
        const body = { count: 4 };
        const { children, operation } = await client.forkInstance({ params: parent, query: long, body });
        expect(operation.error).toBeNull();
        for (const { id } of children) {
          const log = await consoleOf(client, id, /^hook random/m);
          said.push(identityIn(log, dataDir, id)["hook random"]);
          await remove(client, id);
        }
      }
      expect(repeated(said)).toBeGreaterThan(0);
      await remove(client, parent.instance);
    } finally {
      removeRules(dataDir);
    }
  });
});
