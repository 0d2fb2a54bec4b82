import { readFileSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Client, CreateInstanceInput, Instance } from "@berth/api";
import { machinePaths } from "../packages/daemon/src/drivers/qemu/handle.ts";
import { startBerthd } from "../test/support/berthd.ts";
import { runPurge } from "../test/support/purge.ts";
import { prepareHelloImage } from "../tools/start/hello-image.ts";
import type { Benchmark, Finding } from "./support/benchmark.ts";
import { finish } from "./support/fake-instances.ts";
import { estimate, interleave, judge, median, ratio } from "./support/statistics.ts";

const limits = { answering: 1 / 10, firstWord: 1 / 40, cloneMib: 60 } as const;
const rounds = 10;
const clones = 10;
const memoryMib = 256;
const pool = "bench";

export default {
  name: "Warm launch",
  method: `An image with a web server, guests of ${memoryMib} MiB. From the request to the first answer of that server, cloned from a template against booted, in turn, ${rounds} times. From the request to the guest's next word, for a machine from a pool, against the first word of a booted one, in turn, ${rounds} times. Proportional memory (Pss) of each of ${clones} idle clones, a quarter of a minute after they answered.`,
  async run({ scratch, say, freePort }) {
    const dataDir = join(scratch, "data");
    // Its rules, and an instance that a failure left running, must not outlive it.
    await using _ = { [Symbol.asyncDispose]: async () => void (await runPurge(dataDir)) };
    await using berthd = await startBerthd({ dataDir, env: { BERTH_LOG_LEVEL: "warn" } });
    const { client } = berthd;
    const { folder, reference } = prepareHelloImage();
    say("building the image");
    const source = { type: "directory", path: folder } as const;
    await finish(client, (await client.buildImage({ body: { reference, source } })).operation);
    const bench = { client, dataDir, image: reference };
    say("making the template");
    await remove(client, (await launch(bench, { warm: "require" })).instance);

    say(`${rounds} rounds: until the web server answers`);
    const hostPort = await freePort();
    const answers = await interleave(
      rounds,
      () => untilAnswer(bench, { warm: "require" }, hostPort),
      () => untilAnswer(bench, { warm: "never" }, hostPort),
    );

    say(`${rounds} rounds: until the guest's word`);
    const words = await interleave(
      rounds,
      () => untilWordFromPool(bench),
      () => untilWord(bench, { warm: "never" }),
    );
    await finish(client, (await client.deletePool({ params: { pool } })).operation);

    say(`${clones} idle clones`);
    const memory = await memoryOfClones(bench);
    return [
      compared(
        "Warm launch, request to the image's web server answering, against a cold launch of the same image",
        answers,
        limits.answering,
      ),
      compared("Pool claim, request to the guest's first word, against a cold launch", words, limits.firstWord),
      {
        promise: "Memory of an idle clone, proportional",
        estimate: memory,
        limit: limits.cloneMib,
        unit: "MiB",
        verdict: judge(memory, limits.cloneMib),
        details: [`${memory.median.toFixed(0)} MiB each with ${clones} of them; what they share is counted in part.`],
      },
    ];
  },
} satisfies Benchmark;

interface Bench {
  readonly client: Client;
  readonly dataDir: string;
  readonly image: string;
}

function compared(promise: string, pairs: readonly (readonly [number, number])[], limit: number): Finding {
  const found = ratio(pairs);
  const ms = (side: 0 | 1) => `${median(pairs.map((pair) => pair[side])).toFixed(0)} ms`;
  return {
    promise,
    estimate: found,
    limit,
    unit: "x",
    verdict: judge(found, limit),
    details: [`${ms(0)} against ${ms(1)}.`],
  };
}

async function launch(
  { client, image }: Bench,
  asked: Partial<CreateInstanceInput>,
): Promise<{ instance: Instance; askedAt: number }> {
  const askedAt = Date.now();
  const { instance, operation } = await client.createInstance({ body: { image, memoryMib, ...asked } });
  await finish(client, operation);
  const made = await client.getInstance({ params: { instance: instance.id } });
  const wanted = asked.warm === "never" ? "cold" : asked.warm === "require" ? "warm" : "pool";
  if (made.status.start?.mode !== wanted) throw new Error(`it began otherwise: ${made.status.start?.reason}`);
  return { instance: made, askedAt };
}

async function remove(client: Client, { id }: Instance): Promise<void> {
  await finish(client, (await client.deleteInstance({ params: { instance: id }, query: { force: true } })).operation);
}

/** Milliseconds from the request to the first answer of the image's web server on its published port. */
async function untilAnswer(bench: Bench, asked: Partial<CreateInstanceInput>, hostPort: number): Promise<number> {
  const before = performance.now();
  const launched = launch(bench, { ...asked, ports: [{ guestPort: 80, hostPort }] });
  const failed = new AbortController();
  launched.catch(() => failed.abort());
  while (!(await answers(hostPort)) && !failed.signal.aborted) await delay(2);
  const ms = performance.now() - before;
  await remove(bench.client, (await launched).instance);
  return ms;
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host: "127.0.0.1", port, agent: false, timeout: 1000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    });
    request.on("timeout", () => request.destroy());
    request.on("error", () => resolve(false));
  });
}

/** Milliseconds from the request to the stamp of the first line on the guest's control port after it. */
async function untilWord(bench: Bench, asked: Partial<CreateInstanceInput>): Promise<number> {
  const { instance, askedAt } = await launch(bench, asked);
  const { vm, logs } = machinePaths(join(bench.dataDir, "instances"), instance.id);
  const lines = readFileSync(join(vm, logs.control, "current"), "utf8").split("\n");
  // s6-log's stamps, in UTC.
  const stamps = lines.map((line) => Date.parse(`${line.slice(0, 23).replace(" ", "T")}Z`));
  const at = stamps.find((stamp) => stamp >= askedAt);
  await remove(bench.client, instance);
  if (at === undefined) throw new Error("the guest said nothing");
  return at - askedAt;
}

async function untilWordFromPool(bench: Bench): Promise<number> {
  const { client, image } = bench;
  const { items } = await client.listPools();
  if (items.length === 0) await client.createPool({ body: { name: pool, image, memoryMib, size: 1 } });
  while ((await client.getPool({ params: { pool } })).ready < 1) await delay(50);
  return untilWord(bench, {});
}

async function memoryOfClones(bench: Bench) {
  const made: Instance[] = [];
  for (let clone = 0; clone < clones; clone += 1) made.push((await launch(bench, { warm: "require" })).instance);
  await delay(15_000);
  const mib = made.map(({ id }) => proportionalMib(bench.dataDir, id));
  for (const instance of made) await remove(bench.client, instance);
  return estimate(mib);
}

/** What the instance's QEMU takes of memory, what it shares with others in part. */
function proportionalMib(dataDir: string, id: string): number {
  const { runRecord } = machinePaths(join(dataDir, "instances"), id);
  const { hypervisor } = JSON.parse(readFileSync(runRecord, "utf8")) as {
    readonly hypervisor: { readonly pid: number };
  };
  const text = readFileSync(`/proc/${hypervisor.pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1]) / 1024;
}
