import type { Benchmark } from "./support/benchmark.ts";
import { compare } from "./support/compare.ts";
import { finish } from "./support/fake-instances.ts";
import { answerTime, askWebServer, type HelloNode, remove, startHelloNode, webPort } from "./support/hello-node.ts";
import { estimate, interleave, judge, median } from "./support/statistics.ts";

const rounds = 15;
const memoryMib = 256;
const many = 10;
const limitMs = 30;

export default {
  name: "Fork",
  method: `A running instance of ${memoryMib} MiB with the image of \`npm start\` is forked into one child, and then into ${many}: from the request until the children's web servers have given a file through their published ports. Against a cold launch of the same, from the request until its web server has answered; in turn, ${rounds} times. How long the parent's vCPUs stand still is from QEMU's event STOP to its event RESUME, by QEMU's own clock, of all these forks.`,
  async run({ scratch, freePort, times, say }) {
    await using node = await startHelloNode(scratch, say);
    const parent = await answerTime(node, await freePort(), { memoryMib, warm: "never" });
    const pauses: number[] = [];
    const ofMany: number[] = [];
    say(`${times(rounds)} rounds`);
    const pairs = await interleave(
      times(rounds),
      async () => {
        const one = await fork(node, parent.id, 1);
        const ten = await fork(node, parent.id, times(many));
        pauses.push(one.pausedMs, ten.pausedMs);
        ofMany.push(ten.answered);
        return one.answered;
      },
      async () => {
        const { id, answered } = await answerTime(node, await freePort(), { memoryMib, warm: "never" });
        await remove(node, id);
        return answered;
      },
    );
    await remove(node, parent.id);
    // Those of the first round do not count.
    const stood = estimate(pauses.slice(2));
    const manyPairs = pairs.map(([, cold], round): [number, number] => [ofMany[round + 1] ?? Number.NaN, cold]);
    const theirs = "a cold launch";
    return [
      {
        promise: `Fork of a running guest of ${memoryMib} MiB: its vCPUs stand still`,
        estimate: stood,
        limit: limitMs,
        unit: "ms",
        verdict: judge(stood, limitMs),
        details: [
          `${Math.min(...pauses).toFixed(1)} to ${Math.max(...pauses).toFixed(1)} ms, ${median(pauses).toFixed(1)} ms in the middle.`,
        ],
      },
      compare({
        promise: "Fork, request to the first child answering, against a cold launch",
        limit: 1 / 10,
        pairs,
        ours: "the child",
        theirs,
      }),
      compare({
        promise: `Fork, request to ${many} children answering, against one cold launch`,
        limit: 1 / 4,
        pairs: manyPairs,
        ours: `${many} children`,
        theirs,
      }),
    ];
  },
} satisfies Benchmark;

/** Forks an instance, waits until each child's web server has answered, and removes the children. */
async function fork(
  node: HelloNode,
  instance: string,
  count: number,
): Promise<{ readonly answered: number; readonly pausedMs: number }> {
  const { client } = node;
  const before = performance.now();
  const { children, operation } = await client.forkInstance({ params: { instance }, body: { count } });
  await finish(client, operation);
  await Promise.all(children.map(({ id }) => answer(node, id)));
  const answered = performance.now() - before;
  const { items } = await client.listEvents({ query: { subject: instance, type: "instance.forked", limit: 500 } });
  const { pausedMs } = (items.at(-1)?.data ?? {}) as { readonly pausedMs?: number };
  if (typeof pausedMs !== "number") throw new Error("the fork does not say how long its parent stood still");
  await Promise.all(children.map(({ id }) => remove(node, id)));
  return { answered, pausedMs };
}

async function answer({ client }: HelloNode, id: string): Promise<void> {
  const { status } = await client.getInstance({ params: { instance: id } });
  const port = status.ports.find(({ guestPort }) => guestPort === webPort);
  if (status.start?.mode !== "forked" || !port) throw new Error(`${id} is no child that publishes its web server`);
  await askWebServer(port.hostPort);
}
