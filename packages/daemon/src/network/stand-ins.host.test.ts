import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, test } from "vitest";
import type { ClientResult, Trial } from "../../../../test/support/hand-over-trial.ts";
import { scratchDirectory } from "../../../../test/support/scratch.ts";
import { localHost } from "../host/local.ts";

const host = localHost();
const program = fileURLToPath(import.meta.resolve("../../../../test/support/hand-over-trial.ts"));

/** The node and somebody on its network: two network namespaces and a cable, so that nothing of this machine changes. */
const node = `berth-${process.pid}-n`;
const other = `berth-${process.pid}-o`;
const address = "198.51.100.1";
const isRoot = process.getuid?.() === 0;

async function ip(...args: string[]): Promise<void> {
  await host.run("ip", args);
}

beforeAll(async () => {
  if (!isRoot) return;
  for (const name of [node, other]) {
    await ip("netns", "add", name);
    await ip("-n", name, "link", "set", "lo", "up");
  }
  await ip("-n", node, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", other);
  await ip("-n", node, "addr", "add", `${address}/24`, "dev", "cable");
  await ip("-n", other, "addr", "add", "198.51.100.2/24", "dev", "cable");
  for (const name of [node, other]) await ip("-n", name, "link", "set", "cable", "up");
  return async () => {
    for (const name of [node, other]) await ip("netns", "del", name);
  };
});

interface Started {
  /** Its next line. */
  line(): Promise<string>;
  say(line: string): void;
  end(): Promise<void>;
}

async function start(where: string, trial: Trial): Promise<Started> {
  const { stdin, stdout, done } = host.start("ip", [
    "netns",
    "exec",
    where,
    process.execPath,
    program,
    JSON.stringify(trial),
  ]);
  const lines = createInterface(stdout)[Symbol.asyncIterator]();
  const line = async () => (await lines.next()).value ?? "";
  expect(await line()).toBe("up");
  return {
    line,
    say: (text) => void stdin.write(`${text}\n`),
    end: async () => {
      stdin.end();
      await done;
    },
  };
}

const forward = (hostAddress: string, hostPort: number) => ({
  hostAddress,
  hostPort,
  guestPort: 80,
  protocol: "tcp" as const,
});
const ports = [forward("127.0.0.1", 8001), forward(address, 8002), forward("0.0.0.0", 8003)];
const fromNode = [
  { address: "127.0.0.1", port: 8001 },
  { address, port: 8002 },
  { address: "127.0.0.1", port: 8003 },
  { address, port: 8003 },
];
const fromOther = [
  { address, port: 8002 },
  { address, port: 8003 },
];
const connects = 25;

/** A machine that sleeps whenever it can, and bursts of 50 connects, half from the node itself and half from its network. */
async function runTrial(withTable: boolean, bursts: number) {
  const folder = await scratchDirectory("hand");
  const machine = await start(node, { role: "machine", folder, withTable, ports });
  const clients = [
    await start(node, { role: "client", targets: fromNode, connects }),
    await start(other, { role: "client", targets: fromOther, connects }),
  ];
  const results: ClientResult[] = [];
  for (let burst = 0; burst < bursts; burst += 1) {
    for (const client of clients) client.say("go");
    for (const client of clients) results.push(JSON.parse(await client.line()));
  }
  for (const client of clients) await client.end();
  const [said] = await Promise.all([machine.line(), machine.end()]);
  const [slept = 0, counted = 0] = said.split(" ").map(Number);
  return {
    slept,
    counted,
    answered: results.reduce((sum, { answered }) => sum + answered, 0),
    failed: results.flatMap(({ failed }) => failed),
  };
}

describe.runIf(isRoot)("ports that change hands under 1,000 connects", () => {
  test("refuse nobody and lose nobody", async () => {
    const { slept, counted, answered, failed } = await runTrial(true, 20);
    expect(failed).toEqual([]);
    expect(answered).toBe(1000);
    expect(slept).toBeGreaterThanOrEqual(20);
    expect(counted).toBeGreaterThan(0);
  });

  test("would refuse some without the kernel's table", async () => {
    const { failed } = await runTrial(false, 4);
    expect(failed.some((words) => words.includes("ECONNREFUSED"))).toBe(true);
  });
});
