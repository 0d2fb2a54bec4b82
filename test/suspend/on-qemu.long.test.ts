import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import type { Client, CreateInstanceInput, Instance } from "@berth/api";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { accelerated, auditQemu, removeRules } from "../faults/audit-qemu.ts";
import { type Berthd, startBerthd } from "../support/berthd.ts";
import { buildBusybox, busyboxImage } from "../support/busybox-image.ts";
import { eventually } from "../support/eventually.ts";
import { whoRunsBerthd } from "../support/ordinary-user.ts";
import { freePort } from "../support/ports.ts";
import { scratchDirectory } from "../support/scratch.ts";
import { settled } from "../support/settled.ts";

const long = { wait: 300 } as const;
const name = "sleeper";
const params = { instance: name };
const memoryMib = 96;
/** The guest's web server lets nine wait; whoever comes beyond those is answered when QEMU's network tries again, after 6 to 24 seconds. */
const atOnce = 8;

/** Counts in its memory alone and says the count to whoever connects; a child of it answers each, for as long as it is spoken to. */
const counter =
  'n=0; while :; do n=$((n+1)); echo "$n" > /m; /bin/busybox mv /m /n; /bin/busybox sleep 0.1; done & exec /bin/busybox nc -ll -p 80 -e /bin/sh -c "/bin/busybox cat /n; exec /bin/busybox cat"';

describe.each(whoRunsBerthd)("real machines of a berthd run by $who", ({ ordinaryUser }) => {
  let dataDir: string;
  let berthd: Berthd;
  let client: Client;

  const start = async () => {
    berthd = await startBerthd({ dataDir, ordinaryUser, env: { BERTH_LOG_LEVEL: "warn" } });
    client = berthd.client;
  };

  beforeAll(async () => {
    const scratch = await scratchDirectory("slp");
    dataDir = join(scratch, "data");
    await start();
    await buildBusybox(client, scratch);
    await accelerated(dataDir);
  });

  afterAll(async () => {
    await berthd?.stop();
    if (!ordinaryUser) removeRules(dataDir);
  });

  afterEach(async () => {
    for (const { id } of (await client.listInstances()).items)
      await client.deleteInstance({ params: { instance: id }, query: { ...long, force: true } });
    await settled(client);
  });

  async function launch(more: Partial<CreateInstanceInput> = {}): Promise<{ instance: Instance; port: number }> {
    const port = await freePort();
    const body = { image: busyboxImage, name, memoryMib, ports: [{ hostPort: port, guestPort: 80 }], ...more };
    const { instance, operation } = await client.createInstance({ query: long, body });
    expect(operation.error).toBeNull();
    return { instance, port };
  }

  async function sh(script: string): Promise<string> {
    const session = client.exec(name, { command: ["/bin/sh", "-c", script] });
    const chunks: Uint8Array[] = [];
    for await (const { data } of session.output) chunks.push(data);
    expect(await session.exit).toBe(0);
    return Buffer.concat(chunks).toString();
  }

  const now = () => client.getInstance({ params });
  const asleep = () => eventually(async () => expect((await now()).status.phase).toBe("suspended"));

  it("a suspended machine goes on as it was, at the present time", async () => {
    await launch({ command: ["/bin/sh", "-c", counter] });
    const words = "b=/bin/busybox; $b cat /n; $b hostname; $b cat /etc/machine-id /sys/class/net/eth0/address";
    const before = (await sh(words)).split("\n");
    const bootId = await sh("/bin/busybox cat /proc/sys/kernel/random/boot_id");
    const suspended = await client.suspendInstance({ params, query: long });
    expect(suspended.operation.error).toBeNull();
    expect(suspended.instance.status).toMatchObject({ phase: "suspended", ready: false });
    expect(suspended.instance.status.memoryBytes).toBeGreaterThan(2 ** 20);
    if (!ordinaryUser) await auditQemu(client, dataDir, berthd.pid);
    // Neither a stopped nor a killed berthd forgets it.
    await berthd.kill();
    await start();
    const resumed = await client.startInstance({ params, query: long });
    expect(resumed.operation.error).toBeNull();
    expect(resumed.instance.status).toMatchObject({ phase: "running", ready: true, start: { mode: "resumed" } });
    const after = (await sh(words)).split("\n");
    expect(Number(after[0])).toBeGreaterThanOrEqual(Number(before[0]));
    expect(after.slice(1)).toEqual(before.slice(1));
    expect(await sh("/bin/busybox cat /proc/sys/kernel/random/boot_id")).toBe(bootId);
    const seconds = Number(await sh("/bin/busybox date +%s"));
    expect(Math.abs(seconds - Date.now() / 1000)).toBeLessThan(30);
    if (!ordinaryUser) await auditQemu(client, dataDir, berthd.pid);
  });

  it.skipIf(ordinaryUser || process.getuid?.() !== 0)(
    "a connection outlives a killed berthd, and keeps the machine awake until it ends",
    async () => {
      const { port } = await launch({ command: ["/bin/sh", "-c", counter], autosuspend: { idleSeconds: 2 } });
      await asleep();
      // The first wakes it and passes through berthd; the second is the hypervisor's own.
      await speak(port, "first");
      const open = await hold(port);
      await say(open, "before");
      await berthd.kill();
      await say(open, "between");
      await start();
      await say(open, "after");
      open.destroy();
      await asleep();
      await auditQemu(client, dataDir, berthd.pid);
    },
  );

  it.skipIf(ordinaryUser || process.getuid?.() !== 0)(
    "of 1,000 connects over 20 rounds of sleep none is refused, and each is answered",
    { timeout: 900_000 },
    async () => {
      const { port } = await launch({ autosuspend: { idleSeconds: 1 } });
      const refused: unknown[] = [];
      const ask = () => get(port).then((status) => status === 200 || refused.push(status), refused.push.bind(refused));
      const askTimes = async (times: number) => {
        let left = times;
        const askOn = async () => {
          while (left > 0) {
            left -= 1;
            await ask();
          }
        };
        await Promise.all(Array.from({ length: atOnce }, askOn));
      };
      for (let round = 0; round < 20; round += 1) {
        await asleep();
        await askTimes(40);
        // The rest come as it falls asleep again: before, in, and after the moment in which its ports change hands.
        await eventually(async () => {
          const { items } = await client.listOperations({ query: { unfinished: true } });
          expect(items.some(({ type }) => type === "instance.suspend")).toBe(true);
        });
        await askTimes(10);
      }
      expect(refused).toEqual([]);
      const { items } = await client.listOperations({ query: { limit: 500 } });
      expect(items.filter(({ type, error }) => type === "instance.start" && !error).length).toBeGreaterThanOrEqual(20);
      await asleep();
      await auditQemu(client, dataDir, berthd.pid);
    },
  );
});

/** Connects and reads the count that it is greeted with. */
async function hold(port: number): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port });
  const [greeting] = await once(socket, "data");
  expect(Number(String(greeting).trim())).toBeGreaterThan(0);
  return socket;
}

/** Says a word and hears it again. */
async function say(socket: Socket, word: string): Promise<void> {
  const heard = once(socket, "data");
  socket.write(word);
  expect(String((await heard)[0])).toBe(word);
}

async function speak(port: number, word: string): Promise<void> {
  const socket = await hold(port);
  await say(socket, word);
  socket.destroy();
}

/** One connection of its own, asked for a page; resolves with the status. */
async function get(port: number): Promise<number> {
  const { status, body } = await fetch(`http://127.0.0.1:${port}/bin/sh`, {
    method: "HEAD",
    headers: { connection: "close" },
    signal: AbortSignal.timeout(60_000),
  });
  await body?.cancel();
  return status;
}
