import type { Benchmark } from "./support/benchmark.ts";
import { compare } from "./support/compare.ts";
import { defineDomain } from "./support/domain.ts";
import { finish } from "./support/fake-instances.ts";
import { type HelloNode, launch, remove, startHelloNode, untilRunning, webPort } from "./support/hello-node.ts";
import { machineOf } from "./support/running-machine.ts";
import { interleave } from "./support/statistics.ts";

const rounds = 15;

export default {
  name: "Resume",
  method: `An instance of one CPU and 512 MiB with the image of \`npm start\`, its web server up, is suspended and resumed: from the request to resume it to the answer that it runs. Against \`virsh start\` of a domain that is equal to it, its web server up as well, and that \`virsh managedsave\` has put away. In turn, ${rounds} times.`,
  async run({ scratch, libvirt, times, say }) {
    await using node = await startHelloNode(scratch, say);
    const { id } = await launch(node, { warm: "never" });
    const peer = await libvirt();
    const domain = await defineDomain(peer, "resume", machineOf(id), { start: node.start, ports: [webPort] });
    await domain.start();
    await domain.ready();
    say(`${times(rounds)} rounds`);
    const pairs = await interleave(
      times(rounds),
      () => resumeTime(node, id),
      async () => {
        await domain.managedSave();
        const before = performance.now();
        await domain.start();
        return performance.now() - before;
      },
    );
    await domain.destroy();
    await domain.undefine();
    await remove(node, id);
    return [
      compare({
        promise: "Resume from suspend, request to running, against libvirt's managed restore of an equal guest",
        limit: 0.5,
        pairs,
        ours: "a resume",
        theirs: `\`virsh start\` from a managed save (${peer.version})`,
      }),
    ];
  },
} satisfies Benchmark;

async function resumeTime({ client }: HelloNode, instance: string): Promise<number> {
  const params = { instance };
  await finish(client, (await client.suspendInstance({ params })).operation);
  const before = performance.now();
  const { operation } = await client.startInstance({ params });
  const { ended, running } = await untilRunning(client, operation.id, before);
  const { status } = await client.getInstance({ params });
  if (ended.status !== "succeeded" || status.start?.mode !== "resumed")
    throw new Error(`it was not resumed: ${ended.error?.detail ?? status.start?.reason}`);
  return running;
}
