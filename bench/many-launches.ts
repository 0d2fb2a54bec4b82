import type { Benchmark } from "./support/benchmark.ts";
import { compare } from "./support/compare.ts";
import { type Domain, defineDomain } from "./support/domain.ts";
import { answerTime, launch, remove, startHelloNode, webPort } from "./support/hello-node.ts";
import { machineOf } from "./support/running-machine.ts";
import { interleave } from "./support/statistics.ts";

const rounds = 5;
const count = 30;
const memoryMib = 128;

export default {
  name: `${count} launches at once`,
  method: `From the first of ${count} requests made at once, for instances of one image and ${memoryMib} MiB of which there is a template, until every one's web server has answered through its published port. Against ${count} domains of libvirt, equal to these and there already, from the first of ${count} \`virsh start\` made at once until every one's web server listens; in turn, ${rounds} times.`,
  async run({ scratch, freePort, libvirt, times, say }) {
    await using node = await startHelloNode(scratch, say);
    say("making the template");
    await remove(node, (await launch(node, { memoryMib, warm: "require" })).id);
    const pattern = await launch(node, { memoryMib, warm: "never" });
    const machine = machineOf(pattern.id);
    const peer = await libvirt();
    const domains: Domain[] = [];
    for (let index = 0; index < times(count); index++)
      domains.push(await defineDomain(peer, `many-${index}`, machine, { start: node.start, ports: [webPort] }));
    await remove(node, pattern.id);
    say(`${times(rounds)} rounds`);
    const pairs = await interleave(
      times(rounds),
      async () => {
        const ports: number[] = [];
        for (let index = 0; index < times(count); index++) ports.push(await freePort());
        const before = performance.now();
        const launched = await Promise.all(ports.map((port) => answerTime(node, port, { memoryMib, warm: "require" })));
        const ms = performance.now() - before;
        await Promise.all(launched.map(({ id }) => remove(node, id)));
        return ms;
      },
      async () => {
        const before = performance.now();
        await Promise.all(domains.map((domain) => domain.start().then(() => domain.ready())));
        const ms = performance.now() - before;
        await Promise.all(domains.map((domain) => domain.destroy()));
        return ms;
      },
    );
    for (const domain of domains) await domain.undefine();
    return [
      compare({
        promise: `${count} launches at once from one template, all answering, against ${count} equal domains of libvirt`,
        limit: 1 / 20,
        pairs,
        ours: `${count} launches`,
        theirs: `${count} domains (${peer.version})`,
      }),
    ];
  },
} satisfies Benchmark;
