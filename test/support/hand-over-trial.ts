import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import type { PortForward } from "../../packages/daemon/src/core/descriptions.ts";
import { localHost } from "../../packages/daemon/src/host/local.ts";
import { nftPortTable, noPortTable } from "../../packages/daemon/src/network/port-table.ts";
import { PortTraffic } from "../../packages/daemon/src/network/port-traffic.ts";
import { StandIns } from "../../packages/daemon/src/network/stand-ins.ts";

/** A trial of ports that change hands, to be run in a network namespace of its own: `node hand-over-trial.ts JSON`. It ends when standard input does. */
export type Trial = MachineTrial | ClientTrial;

/** Sleeps whenever nothing is open, and is woken by whoever comes. Says `up` once it listens, and at its end how often it slept, and how much it counted. */
export interface MachineTrial {
  readonly role: "machine";
  readonly folder: string;
  /** Whether the kernel's table helps. */
  readonly withTable: boolean;
  readonly ports: readonly PortForward[];
}

/** For each line it reads, connects so often within a moment, says something each time, and answers with a ClientResult when all is answered. */
export interface ClientTrial {
  readonly role: "client";
  readonly targets: readonly { readonly address: string; readonly port: number }[];
  readonly connects: number;
}

/** What became of a client's connects. */
export interface ClientResult {
  readonly answered: number;
  readonly failed: readonly string[];
}

/** How long a hypervisor takes to end, and to begin, in milliseconds: nobody listens meanwhile. */
const hypervisorMs = 20;
const momentMs = 400;
const id = "i-0123456789abcdef0";

/** Listens as QEMU's user-mode network does: with room for hardly anyone who has not been accepted. */
async function startMachine(ports: readonly PortForward[]): Promise<readonly Server[]> {
  return Promise.all(
    ports.map(async ({ hostAddress, hostPort }) => {
      const server = createServer({ allowHalfOpen: true }, (client) => {
        client.on("error", () => client.destroy());
        client.pipe(client);
      });
      server.listen({ host: hostAddress, port: hostPort, backlog: 1, exclusive: true });
      await once(server, "listening");
      return server;
    }),
  );
}

async function beMachine({ folder, withTable, ports }: MachineTrial): Promise<void> {
  const host = localHost();
  const table = withTable ? nftPortTable({ host, table: "berth_trial_ports", folder }) : noPortTable;
  const onError = (_id: string, error: unknown) => {
    throw error;
  };
  const standIns = new StandIns({ host, table, onError });
  const traffic = new PortTraffic({ host, table });
  const ended = once(process.stdin.resume(), "end");
  let over = false;
  void ended.then(() => {
    over = true;
  });
  let slept = 0;
  let machine = await startMachine(ports);
  const counted = () => traffic.count(new Map([[id, ports]]));
  await counted();
  process.stdout.write("up\n");
  while (!over) {
    await delay(Math.random() * hypervisorMs);
    const knock = Promise.withResolvers<void>();
    const unsubscribe = standIns.onKnock(() => knock.resolve());
    await standIns.divert(id, ports);
    await delay(Math.random() * hypervisorMs);
    if (standIns.relayed(id) + (await traffic.openConnections(ports)) === 0) {
      for (const server of machine) server.close();
      await delay(hypervisorMs);
      await standIns.own(id, ports);
      await Promise.race([knock.promise, ended]);
      await standIns.divert(id, ports);
      await delay(hypervisorMs);
      machine = await startMachine(ports);
      slept += 1;
    }
    unsubscribe();
    await standIns.giveBack(id);
    await delay(momentMs / 4);
  }
  process.stdout.write(`${slept} ${(await counted()).get(id)}\n`);
  await standIns.close();
  await table.remove();
  for (const server of machine) server.close();
}

async function beClient({ targets, connects }: ClientTrial): Promise<void> {
  process.stdout.write("up\n");
  for await (const _ of createInterface(process.stdin)) {
    const failed: string[] = [];
    const one = async (index: number) => {
      await delay(Math.random() * momentMs);
      const target = targets[index % targets.length] ?? { address: "", port: 0 };
      const word = `word ${index}`;
      const answer = await ask(target, word).catch((error: Error) => error.message);
      if (answer !== word) failed.push(`${target.address}:${target.port} ${answer}`);
    };
    await Promise.all(Array.from({ length: connects }, (_, index) => one(index)));
    const result: ClientResult = { answered: connects - failed.length, failed };
    process.stdout.write(`${JSON.stringify(result)}\n`);
  }
}

async function ask({ address, port }: ClientTrial["targets"][number], word: string): Promise<string> {
  const socket = connect({ host: address, port, allowHalfOpen: true });
  socket.setTimeout(20_000, () => socket.destroy(new Error("no answer in 20 s")));
  socket.end(word);
  let answer = "";
  for await (const chunk of socket) answer += chunk;
  return answer;
}

const trial = JSON.parse(process.argv[2] ?? "") as Trial;
await (trial.role === "machine" ? beMachine(trial) : beClient(trial));
