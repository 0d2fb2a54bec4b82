import { setTimeout as delay } from "node:timers/promises";
import type { Benchmark, BenchmarkContext, Finding } from "./support/benchmark.ts";
import { compare } from "./support/compare.ts";
import { defineDomain } from "./support/domain.ts";
import { answerTime, firstWord, type HelloNode, launch, remove, startHelloNode } from "./support/hello-node.ts";
import type { Libvirt } from "./support/libvirt.ts";
import { machineOf } from "./support/running-machine.ts";
import { interleave } from "./support/statistics.ts";

const rounds = 15;
const poolName = "bench";

export default {
  name: "Warm launch",
  method: `The image of \`npm start\` in instances of one CPU and 512 MiB. Warm and cold launches, and claims from a pool, are timed from the request: to the answer that its machine runs, to the first file that its web server has given through a published port, and to what its guest said first on its control port. \`virsh start\` is that of a domain of type qemu with the same kernel, initramfs, disk, processor, memory and devices, which exists already and is destroyed after each start. ${rounds} rounds each, in turn.`,
  async run(context) {
    const { scratch, libvirt, say, times } = context;
    await using node = await startHelloNode(scratch, say);
    say("making the template");
    await remove(node, (await launch(node, { warm: "require" })).id);
    say(`${rounds} rounds against virsh start`);
    const started = await againstStart(node, await libvirt(), times(rounds));
    say(`${rounds} rounds of web servers against cold launches`);
    const answered = await webServers(node, context);
    say(`${rounds} rounds of claims against cold launches`);
    const claimed = await claims(node, times(rounds));
    return [started, answered, claimed];
  },
} satisfies Benchmark;

async function againstStart(node: HelloNode, libvirt: Libvirt, times: number): Promise<Finding> {
  const pattern = await launch(node, { warm: "never" });
  const domain = await defineDomain(libvirt, "start", machineOf(pattern.id), { start: node.start, ports: [] });
  await remove(node, pattern.id);
  const pairs = await interleave(
    times,
    async () => (await launchedAs("warm", node)).running,
    async () => {
      const before = performance.now();
      await domain.start();
      const ms = performance.now() - before;
      await domain.destroy();
      return ms;
    },
  );
  await domain.undefine();
  return compare({
    promise: "Warm launch, request to running, against `virsh start` of an equal domain",
    limit: 0.5,
    pairs,
    ours: "a warm launch",
    theirs: `\`virsh start\` (${libvirt.version})`,
  });
}

async function webServers(node: HelloNode, { freePort, times }: BenchmarkContext): Promise<Finding> {
  const answer = async (warm: "require" | "never") => {
    const { id, answered } = await answerTime(node, await freePort(), { warm });
    await remove(node, id);
    return answered;
  };
  const pairs = await interleave(
    times(rounds),
    () => answer("require"),
    () => answer("never"),
  );
  return compare({
    promise: "Warm launch, request to the web server's answer, against a cold launch of the same image",
    limit: 1 / 10,
    pairs,
    ours: "a warm launch",
    theirs: "a cold one",
  });
}

async function claims(node: HelloNode, times: number): Promise<Finding> {
  const { client, image } = node;
  await client.createPool({ body: { name: poolName, image, size: 1 } });
  const word = async (mode: "pool" | "cold") => {
    await filled(node);
    return (await launchedAs(mode, node)).word;
  };
  const pairs = await interleave(
    times,
    () => word("pool"),
    () => word("cold"),
  );
  await client.deletePool({ params: { pool: poolName }, query: { wait: 60 } });
  return compare({
    promise: "Claim from a pool, request to the guest's first word, against a cold launch",
    limit: 1 / 40,
    pairs,
    ours: "a claim",
    theirs: "a cold launch",
  });
}

/** Launches an instance, sees that it began as it was to, and removes it. */
async function launchedAs(mode: "warm" | "pool" | "cold", node: HelloNode) {
  const launched = await launch(node, { warm: mode === "cold" ? "never" : mode === "warm" ? "require" : "auto" });
  if (launched.mode !== mode) throw new Error(`a launch was ${launched.mode} and not ${mode}`);
  const word = firstWord(node, launched);
  await remove(node, launched.id);
  return { ...launched, word };
}

/** Waits until the pool is full: nothing is to be made beside what is measured. */
async function filled({ client }: HelloNode): Promise<void> {
  for (;;) {
    const { ready, filling, reason } = await client.getPool({ params: { pool: poolName } });
    if (ready === 1 && filling === 0) return;
    if (reason) throw new Error(`the pool is not full: ${reason}`);
    await delay(20);
  }
}
