import { setTimeout as delay } from "node:timers/promises";
import type { Benchmark } from "./support/benchmark.ts";
import { execIn, type HelloNode, launch, remove, startHelloNode } from "./support/hello-node.ts";
import { availableMib, proportionalMib } from "./support/process-usage.ts";
import { machineOf } from "./support/running-machine.ts";
import { estimate, judge } from "./support/statistics.ts";

const count = 150;
const atOnce = 6;
const memoryMib = 256;
const limitMib = 60;
/** What a clone does for itself after it was started is done by then. */
const restMs = 30_000;

export default {
  name: "Idle clones",
  method: `${count} instances of ${memoryMib} MiB, cloned from one template, their web servers up and nobody asking them. Half a minute after the last was launched: the proportional memory (Pss) of each one's QEMU, in which what it shares with others counts in part. Then \`hostname\` is run in each by exec, ${atOnce} at a time; an answer is one that is the instance's own name.`,
  async run({ scratch, times, say }) {
    await using node = await startHelloNode(scratch, say);
    say("making the template");
    await remove(node, (await launch(node, { memoryMib, warm: "require" })).id);
    const before = availableMib();
    const clones = times(count);
    say(`launching ${clones}`);
    const ids = await eachOf(Array.from({ length: clones }), async () => {
      return (await launch(node, { memoryMib, warm: "require" })).id;
    });
    await delay(restMs);
    const memory = estimate(ids.map((id) => proportionalMib(machineOf(id).pid)));
    const taken = before - availableMib();
    say(`asking ${clones}`);
    const answers = await eachOf(ids, (id) => answersExec(node, id));
    const silent = answers.filter((answered) => !answered).length;
    say(`removing ${clones}`);
    await eachOf(ids, (id) => remove(node, id));
    const unanswered = { median: silent, low: silent, high: silent, count: 1 };
    return [
      {
        promise: "Memory of an idle clone, proportional",
        estimate: memory,
        limit: limitMib,
        unit: "MiB",
        verdict: judge(memory, limitMib),
        details: [
          `${memory.median.toFixed(0)} MiB each. Together they took ${(taken / 1024).toFixed(1)} GiB of what was available on this machine.`,
        ],
      },
      {
        promise: `${count} idle clones alive at once: those that do not answer exec`,
        estimate: unanswered,
        limit: 0,
        unit: "machines",
        verdict: judge(unanswered, 0),
        details: [`${answers.length - silent} of ${answers.length} answered.`],
      },
    ];
  },
} satisfies Benchmark;

/** Does something with each, a few at a time; what came of it, in their order. */
async function eachOf<In, Out>(all: readonly In[], act: (one: In) => Promise<Out>): Promise<Out[]> {
  const results: Out[] = [];
  const left = all.entries();
  const worker = async () => {
    for (const [index, one] of left) results[index] = await act(one);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  return results;
}

async function answersExec(node: HelloNode, id: string): Promise<boolean> {
  const { name } = await node.client.getInstance({ params: { instance: id } });
  return (await execIn(node, id, "hostname").catch(() => "")) === `${name}\n`;
}
