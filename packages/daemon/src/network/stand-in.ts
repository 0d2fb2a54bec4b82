import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { BerthError } from "@berth/api";
import type { PortForward } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import { type Diversion, diversionTimeoutS } from "./diversion-rules.ts";
import { type Endpoint, parseSockets, unaccepted } from "./kernel-sockets.ts";
import type { PortTable } from "./port-table.ts";

/** How many connections are held for one sleeper; more are closed, so that a flood does not fill the daemon. */
const mostHeld = 4096;
/** How long connections that are on their way to a port may take to arrive before it is left, in milliseconds. */
const arrivalMs = 1_000;
const lookMs = 5;
const renewMs = (diversionTimeoutS * 1000) / 6;

export interface StandInOptions {
  readonly host: Pick<Host, "files">;
  readonly table: PortTable;
  /** Called for each connection that begins to wait. */
  readonly onKnock: () => void;
  readonly onError: (error: unknown) => void;
}

/** One published port and the sockets that stand in for it. */
interface Place {
  readonly address: string;
  readonly port: number;
  /** Takes diverted connections; open as long as the stand-in is, since some may be on their way to it for a while. */
  readonly inner: Server;
  readonly innerPort: number;
  /** The port itself, while the machine is off. */
  outer: Server | undefined;
}

/** Stands in for one instance on its published TCP ports: see `StandIns`. Its calls must not overlap. */
export class StandIn {
  readonly #options: StandInOptions;
  /** Who waits, and for which port. */
  readonly #held = new Map<Socket, Endpoint>();
  readonly #relayed = new Set<Socket>();
  #places: Place[] = [];
  #renewal: NodeJS.Timeout | undefined;
  #line: Promise<void> = Promise.resolve();
  #holds = false;

  constructor(options: StandInOptions) {
    this.#options = options;
  }

  get holds(): boolean {
    return this.#holds;
  }

  get waiting(): number {
    return this.#held.size;
  }

  get relayed(): number {
    return this.#relayed.size;
  }

  async divert(ports: readonly PortForward[]): Promise<void> {
    await this.#open(ports);
    this.#holds = true;
    await this.#renew();
    this.#renewal ??= setInterval(() => void this.#renew().catch(this.#options.onError), renewMs).unref();
    await this.#leave();
  }

  async own(ports: readonly PortForward[]): Promise<void> {
    await this.#open(ports);
    this.#holds = true;
    try {
      for (const place of this.#places) place.outer ??= await this.#listen(place.address, place.port, place);
    } catch (error) {
      await this.close();
      throw error;
    }
    await this.#endDiversion();
  }

  async giveBack(): Promise<void> {
    await this.#leave();
    await this.#endDiversion();
    this.#holds = false;
    for (const [client, target] of this.#held) this.#relay(client, target);
    this.#held.clear();
  }

  turnAway(): void {
    for (const client of this.#held.keys()) client.destroy();
    this.#held.clear();
  }

  /** Ends all of it: who waits, and what is relayed. */
  async close(): Promise<void> {
    this.#holds = false;
    await this.#endDiversion();
    for (const place of this.#places) closePlace(place);
    this.#places = [];
    this.turnAway();
    for (const client of this.#relayed) client.destroy();
  }

  /** Makes places for exactly these ports. */
  async #open(ports: readonly PortForward[]): Promise<void> {
    const wanted = ports.filter(({ protocol }) => protocol === "tcp");
    const isWanted = ({ address, port }: Place) =>
      wanted.some(({ hostAddress, hostPort }) => hostAddress === address && hostPort === port);
    for (const place of this.#places) if (!isWanted(place)) closePlace(place);
    this.#places = this.#places.filter(isWanted);
    for (const { hostAddress: address, hostPort: port } of wanted) {
      if (this.#places.some((place) => place.address === address && place.port === port)) continue;
      const inner = await this.#listen(address, 0, { address, port });
      const { port: innerPort } = inner.address() as { port: number };
      this.#places.push({ address, port, inner, innerPort, outer: undefined });
    }
  }

  async #renew(): Promise<void> {
    await this.#options.table.divert(this.#diversions());
  }

  async #endDiversion(): Promise<void> {
    clearInterval(this.#renewal);
    this.#renewal = undefined;
    await this.#options.table.giveBack(this.#diversions());
  }

  #diversions(): readonly Diversion[] {
    return this.#places.map(({ address, port, innerPort }) => ({ address, port, innerPort }));
  }

  /** Closes the ports themselves, once those who are on their way have arrived: a socket that closes resets them. */
  async #leave(): Promise<void> {
    const owned = this.#places.filter(({ outer }) => outer);
    if (owned.length === 0) return;
    await this.#allAccepted(owned);
    for (const place of owned) {
      const { outer } = place;
      place.outer = undefined;
      outer?.close();
    }
  }

  #listen(address: string, port: number, target: Endpoint): Promise<Server> {
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (client) => this.#take(client, target));
    return new Promise((resolve, reject) => {
      server.once("error", (error: NodeJS.ErrnoException) => {
        const taken = new BerthError("port_taken", `Port ${port} on ${address} is in use on this node.`, {
          cause: error,
        });
        reject(error.code === "EADDRINUSE" ? taken : error);
      });
      server.listen({ host: address, port, exclusive: true }, () => {
        server.off("error", reject);
        server.on("error", this.#options.onError);
        resolve(server);
      });
    });
  }

  #take(client: Socket, target: Endpoint): void {
    client.on("error", () => client.destroy());
    client.once("close", () => {
      this.#held.delete(client);
      this.#relayed.delete(client);
    });
    if (!this.#holds) this.#relay(client, target);
    else if (this.#held.size >= mostHeld) client.destroy();
    else {
      this.#held.set(client, target);
      this.#options.onKnock();
    }
  }

  /**
   * Joins a client with whoever has the port now. One after the other: QEMU's user-mode network has room for one connection that it has not accepted yet, and the kernel
   * keeps others waiting for a second, or resets them.
   */
  #relay(client: Socket, target: Endpoint): void {
    this.#relayed.add(client);
    this.#line = this.#line.then(() => this.#join(client, target)).catch(this.#options.onError);
  }

  /** Resolves when the machine's side is connected, or cannot be. Each end of either is passed on when all before it has arrived. */
  async #join(client: Socket, { address, port }: Endpoint): Promise<void> {
    await this.#allAccepted([{ address, port }]);
    const host = address === "0.0.0.0" ? "127.0.0.1" : address;
    const machine = connect({ host, port, allowHalfOpen: true });
    machine.on("error", () => machine.destroy());
    machine.once("close", (failed) => (failed ? client.destroy() : client.destroySoon()));
    client.once("close", (failed) => (failed ? machine.destroy() : machine.destroySoon()));
    client.pipe(machine);
    machine.pipe(client);
    if (client.destroyed) machine.destroy();
    await new Promise<void>((resolve) => machine.once("connect", resolve).once("close", () => resolve()));
  }

  /** Waits for a moment until nobody is on his way to these ports any more, or waits to be accepted there. */
  async #allAccepted(endpoints: readonly Endpoint[]): Promise<void> {
    const deadline = performance.now() + arrivalMs;
    const path = "/proc/net/tcp";
    while (performance.now() < deadline) {
      const sockets = parseSockets((await this.#options.host.files.readText(path)) ?? "");
      if (unaccepted(sockets, endpoints) === 0) return;
      await delay(lookMs);
    }
  }
}

function closePlace({ outer, inner }: Place): void {
  outer?.close();
  inner.close();
}
