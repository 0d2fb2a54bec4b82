import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { Agent } from "node:http";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startBerthd } from "../test/support/berthd.ts";
import type { Benchmark } from "./support/benchmark.ts";
import { launchFake } from "./support/fake-instances.ts";
import { cpuTimeMs } from "./support/process-usage.ts";
import { get, getOften, type Target } from "./support/requests.ts";
import { interleave, judge, median, ratio } from "./support/statistics.ts";

const limit = 2;
const requests = 2000;
const rounds = 15;

export default {
  name: "GET of one instance",
  method: `CPU time of berthd (embedded store, driver fake) for ${requests} GETs of one instance over 4 connections, against a Fastify server with one route that sends the same bytes, in turn, ${rounds} times.`,
  tuned: [
    "Before, 4.0 x (3.0 x to 4.4 x). Rows are read past Kysely and stay read until berthd writes again (SQLite), an instance is checked once for as long as its row is the same, written down as JSON once, and no logger is made for each request.",
    "Then 2.1 x (2.0 x to 2.3 x). A token known is found by its header, not by its hash; a row read again is found by its query and parameters apart, and known by being the same one.",
  ],
  async run({ scratch, times, freePort, say }) {
    await using berthd = await startBerthd({
      dataDir: join(scratch, "data"),
      env: { BERTH_RATE_LIMIT: "999999", BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn" },
    });
    const [instance] = await launchFake(berthd.client, scratch, 1);
    const ours: Target = {
      url: `${berthd.url}/api/v1/instances/${instance?.id}`,
      headers: { authorization: `Bearer ${berthd.token}` },
    };
    const bare = await startBare(scratch, await freePort(), await get(ours, new Agent()));
    try {
      const cost = (pid: number, target: Target) => async () => {
        const before = cpuTimeMs(pid);
        await getOften(target, requests);
        return cpuTimeMs(pid) - before;
      };
      say(`${times(rounds)} rounds of ${requests} requests each`);
      const pairs = await interleave(times(rounds), cost(berthd.pid, ours), cost(bare.pid, bare.target));
      const estimate = ratio(pairs);
      const perRequest = (side: 0 | 1) =>
        `${((median(pairs.map((pair) => pair[side])) / requests) * 1000).toFixed(0)} µs`;
      return [
        {
          promise: "CPU time of a GET of one instance, against a bare Fastify route returning the same bytes",
          estimate,
          limit,
          unit: "x",
          verdict: judge(estimate, limit),
          details: [`${perRequest(0)} of CPU time for each request to berthd, ${perRequest(1)} for the bare route.`],
        },
      ];
    } finally {
      await bare.stop();
    }
  },
} satisfies Benchmark;

async function startBare(scratch: string, port: number, body: Buffer) {
  const bodyPath = join(scratch, "body.json");
  writeFileSync(bodyPath, body);
  const program = join(import.meta.dirname, "support/bare-server.ts");
  const child = spawn(process.execPath, [program, String(port), bodyPath], { stdio: ["ignore", "ignore", "inherit"] });
  const target = { url: `http://127.0.0.1:${port}/` };
  for (const agent = new Agent(); child.exitCode === null; await delay(20)) {
    if (
      await get(target, agent).then(
        () => true,
        () => false,
      )
    )
      break;
  }
  return {
    pid: child.pid ?? 0,
    target,
    async stop() {
      if (child.exitCode !== null) return;
      child.kill("SIGTERM");
      await once(child, "exit");
    },
  };
}
