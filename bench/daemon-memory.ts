import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startBerthd } from "../test/support/berthd.ts";
import type { Benchmark } from "./support/benchmark.ts";
import { launchFake } from "./support/fake-instances.ts";
import { residentMib } from "./support/process-usage.ts";
import { estimate, judge, median } from "./support/statistics.ts";

const limit = 160;
const instances = 50;
const readings = 30;

export default {
  name: "Memory of berthd",
  method: `Resident memory of berthd (embedded store, driver fake) with ${instances} running instances, read ${readings} times a second apart, from the last launch on, while pages of instances are asked for. Its second start: the first after an update compiles what it runs, and holds the compiler, some 20 MiB, until it ends.`,
  tuned: [
    "Before, 213 to 221 MiB. Young objects get 4 MiB instead of 16 (three times over), and compiled code is kept on disk, so that the TypeScript compiler is not loaded, neither by berthd nor by the thread that builds images. CPU time to start went from 1.2 s to 0.65 s.",
  ],
  async run({ scratch, times, say }) {
    const start = () => startBerthd({ dataDir: join(scratch, "data"), env: { BERTH_DRIVER: "fake" } });
    await (await start()).stop();
    await using berthd = await start();
    const empty = residentMib(berthd.pid);
    say(`launching ${instances} instances`);
    await launchFake(berthd.client, scratch, instances);
    const values: number[] = [];
    for (let reading = 0; reading < times(readings); reading++) {
      await berthd.client.listInstances();
      values.push(residentMib(berthd.pid));
      await delay(1000);
    }
    const result = estimate(values);
    return [
      {
        promise: `Memory of berthd with ${instances} instances`,
        estimate: result,
        limit,
        unit: "MiB",
        verdict: judge(result, limit),
        details: [
          `${empty.toFixed(0)} MiB before the first instance, ${median(values).toFixed(0)} MiB with ${instances}, ${Math.max(...values).toFixed(0)} MiB at most.`,
        ],
      },
    ];
  },
} satisfies Benchmark;
