import type { PortForward } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import { type CountedPort, countKey } from "./diversion-rules.ts";
import { openConnections, parseSockets } from "./kernel-sockets.ts";
import type { PortTable } from "./port-table.ts";

/** What comes to the published ports of instances that run. */
export class PortTraffic {
  readonly #host: Pick<Host, "files">;
  readonly #table: PortTable;
  #counted = new Map<string, CountedPort>();

  constructor(options: { readonly host: Pick<Host, "files">; readonly table: PortTable }) {
    this.#host = options.host;
    this.#table = options.table;
  }

  /** How many connections a program on this node has open at these ports, or are on their way to one. */
  async openConnections(ports: readonly PortForward[]): Promise<number> {
    const endpoints = ports
      .filter(({ protocol }) => protocol === "tcp")
      .map(({ hostAddress, hostPort }) => ({ address: hostAddress, port: hostPort }));
    if (endpoints.length === 0) return 0;
    return openConnections(parseSockets((await this.#host.files.readText("/proc/net/tcp")) ?? ""), endpoints);
  }

  /** Counts what comes to the ports of exactly these instances from now on; answers how many packets have come to each so far. */
  async count(instances: ReadonlyMap<string, readonly PortForward[]>): Promise<ReadonlyMap<string, number>> {
    const wanted = new Map<string, CountedPort>();
    for (const ports of instances.values()) for (const port of ports.map(toCounted)) wanted.set(countKey(port), port);
    const [gone, added] = [without(this.#counted, wanted), without(wanted, this.#counted)];
    if (gone.length > 0) await this.#table.stopCounting(gone);
    if (added.length > 0) await this.#table.count(added);
    this.#counted = wanted;
    const counts = wanted.size > 0 ? await this.#table.counts() : new Map<string, number>();
    const sum = (ports: readonly PortForward[]) =>
      ports.reduce((total, port) => total + (counts.get(countKey(toCounted(port))) ?? 0), 0);
    return new Map([...instances].map(([id, ports]) => [id, sum(ports)]));
  }
}

function toCounted({ protocol, hostAddress, hostPort }: PortForward): CountedPort {
  return { protocol, address: hostAddress, port: hostPort };
}

function without(all: ReadonlyMap<string, CountedPort>, others: ReadonlyMap<string, CountedPort>): CountedPort[] {
  return [...all].filter(([key]) => !others.has(key)).map(([, port]) => port);
}
