import { cpSync } from "node:fs";
import { Agent } from "node:http";
import { join } from "node:path";
import { type Berthd, startBerthd } from "../test/support/berthd.ts";
import type { Benchmark } from "./support/benchmark.ts";
import { launchFake } from "./support/fake-instances.ts";
import { addCopies } from "./support/filled-store.ts";
import { get } from "./support/requests.ts";
import { interleave, judge, median, ratio } from "./support/statistics.ts";

const limit = 3;
const rounds = 30;
const pagesPerRound = 20;

export default {
  name: "A page of instances",
  method: `Time of a page of 50 instances from a berthd that has 10,000 of them, against one that has 100 (embedded store), ${pagesPerRound} pages each in turn, ${rounds} times. The first page and one from the middle.`,
  tuned: [
    "Before, a daemon with 10,000 stopped instances used half a core: each was looked at every 10 seconds. Now only those that run are, four at a time, by an index; resting ones once after the start.",
  ],
  async run({ scratch, times, say }) {
    const few = join(scratch, "few");
    const many = join(scratch, "many");
    const env = { BERTH_DRIVER: "fake", BERTH_LOG_LEVEL: "warn" };
    const start = (dataDir: string) => startBerthd({ dataDir, env, timeoutMs: 120_000 });
    say("filling two stores");
    const template = await start(few);
    const [instance] = await launchFake(template.client, scratch, 1);
    if (!instance) throw new Error("no instance was made");
    const stopped = await template.client.stopInstance({ params: { instance: instance.id }, query: { force: true } });
    await template.client.waitForOperation(stopped.operation.id);
    const pattern = await template.client.getInstance({ params: { instance: instance.id } });
    await template.stop();
    cpSync(few, many, { recursive: true });
    await addCopies(few, pattern, 99);
    await addCopies(many, pattern, 9_999);

    await using ofFew = await start(few);
    await using ofMany = await start(many);
    say(`${times(rounds)} rounds of ${pagesPerRound} pages each`);
    const first = await interleave(times(rounds), pages(ofMany, ""), pages(ofFew, ""));
    const middle = await interleave(
      times(rounds),
      pages(ofMany, await cursorAfter(ofMany, 5_000)),
      pages(ofFew, await cursorAfter(ofFew, 50)),
    );
    return [
      finding("A page of 50 out of 10,000 instances, against a page out of 100", first),
      finding("A page of 50 from the middle of 10,000 instances, against the second out of 100", middle),
    ];
  },
} satisfies Benchmark;

/** The mean time of one page, in milliseconds, over one kept connection. */
function pages(berthd: Berthd, cursor: string) {
  const target = {
    url: `${berthd.url}/api/v1/instances?limit=50${cursor && `&cursor=${encodeURIComponent(cursor)}`}`,
    headers: { authorization: `Bearer ${berthd.token}` },
  };
  return async () => {
    const agent = new Agent({ keepAlive: true });
    try {
      await get(target, agent);
      const before = performance.now();
      for (let page = 0; page < pagesPerRound; page++) await get(target, agent);
      return (performance.now() - before) / pagesPerRound;
    } finally {
      agent.destroy();
    }
  };
}

/** The cursor behind the first so many instances. */
async function cursorAfter({ client }: Berthd, count: number): Promise<string> {
  let cursor: string | undefined;
  for (let seen = 0; seen < count; seen += 50) {
    const page = await client.listInstances({ query: { limit: 50, cursor } });
    cursor = page.nextCursor ?? undefined;
  }
  return cursor ?? "";
}

function finding(promise: string, pairs: readonly [number, number][]) {
  const result = ratio(pairs);
  const ms = (side: 0 | 1) => `${median(pairs.map((pair) => pair[side])).toFixed(1)} ms`;
  return {
    promise,
    estimate: result,
    limit,
    unit: "x" as const,
    verdict: judge(result, limit),
    details: [`${ms(0)} for a page of many, ${ms(1)} for a page of few.`],
  };
}
