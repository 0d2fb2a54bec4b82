import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { memoryPaths } from "../packages/daemon/src/drivers/memory-image.ts";
import type { Benchmark } from "./support/benchmark.ts";
import { finish } from "./support/fake-instances.ts";
import { execIn, type HelloNode, launch, remove, startHelloNode } from "./support/hello-node.ts";
import { estimate, judge, median } from "./support/statistics.ts";

const rounds = 15;
const memoryMib = 512;
const limitMs = 100;
const minuteMs = 60_000;
const wantedMib = 1024;

/**
 * 20 MiB each second of the guest's clock, over and over to the same 240 MiB, of bytes that are no zeroes: those would cost nothing to save. Who is behind catches up.
 */
const writer = `dd if=/dev/urandom of=/seed bs=1M count=20 2>/dev/null
now() { cut -d. -f1 /proc/uptime; }
n=0; first=$(now)
while :; do
  dd if=/seed of=/data bs=1M count=20 seek=$((n % 12 * 20)) conv=notrunc 2>/dev/null
  n=$((n + 1))
  while [ $(($(now) - first)) -lt $n ]; do sleep 0.1; done
done`;

export default {
  name: "Snapshot with memory",
  method: `An instance of ${memoryMib} MiB whose program writes 20 MiB each second to its disk, and goes on all the while. After each minute in which its disk took more than ${wantedMib} MiB a snapshot of disk and memory is made. What is measured is how long its vCPUs stand still: from QEMU's event STOP to its event RESUME, by QEMU's own clock. ${rounds} times.`,
  async run({ scratch, times, say }) {
    await using node = await startHelloNode(scratch, say);
    const { id } = await launch(node, { memoryMib, warm: "never" });
    const writing = node.client.exec(id, { command: ["/bin/sh", "-c", writer], user: "0" });
    const pauses: number[] = [];
    const written: number[] = [];
    for (let round = 0; round < times(rounds); round += 1) {
      say(`a minute of writing, and snapshot ${round + 1} of ${times(rounds)}`);
      const before = await writtenMib(node, id);
      await delay(minuteMs);
      const mib = (await writtenMib(node, id)) - before;
      if (mib < wantedMib) throw new Error(`its disk took only ${mib.toFixed(0)} MiB in a minute`);
      written.push(mib);
      pauses.push(await pauseOfSnapshot(node, id));
    }
    writing.close();
    await remove(node, id);
    const result = estimate(pauses);
    return [
      {
        promise: `Snapshot with memory of a ${memoryMib} MiB guest that wrote 1 GiB in the last minute and writes on: its vCPUs stand still`,
        estimate: result,
        limit: limitMs,
        unit: "ms",
        verdict: judge(result, limitMs),
        details: [
          `${Math.min(...pauses).toFixed(1)} to ${Math.max(...pauses).toFixed(1)} ms; ${median(written).toFixed(0)} MiB were written in the minute before.`,
        ],
      },
    ];
  },
} satisfies Benchmark;

/** What the instance's disk has taken since it started, in MiB: sectors written, of Linux's block/stat. */
async function writtenMib(node: HelloNode, id: string): Promise<number> {
  const fields = (await execIn(node, id, "cat", "/sys/block/vda/stat")).trim().split(/\s+/);
  return (Number(fields[6]) * 512) / 1024 ** 2;
}

/** Makes a snapshot, reads in its memory how long the vCPUs stood still, and deletes it. */
async function pauseOfSnapshot({ client, dataDir }: HelloNode, instance: string): Promise<number> {
  const { snapshot, operation } = await client.createSnapshot({ body: { instance, memory: true } });
  await finish(client, operation);
  const root = join(dataDir, "snapshots");
  // The frozen disks of earlier ones stay below the instance's; their memory went with them.
  const [record] = readdirSync(root)
    .map((folder) => memoryPaths(join(root, folder, "memory")).record)
    .filter((path) => existsSync(path));
  const { pausedMs } = JSON.parse(readFileSync(record ?? "", "utf8")) as { readonly pausedMs: number };
  const { operation: removal } = await client.deleteSnapshot({ params: { snapshot: snapshot.id } });
  await finish(client, removal);
  return pausedMs;
}
