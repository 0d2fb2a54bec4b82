import type { PortForward } from "../core/descriptions.ts";
import type { Host } from "../host/host.ts";
import type { PortTable } from "./port-table.ts";
import { StandIn } from "./stand-in.ts";

/**
 * Whoever sleeps is stood in for on its published TCP ports: the daemon takes its connections, holds them, and hands them over once it is awake. Ports change hands
 * without anyone being refused:
 *
 * - falling asleep: `divert` (new connections come here, those that are open go on), the machine goes off, `own`;
 * - asleep: the ports are the daemon's own sockets, and each connection knocks;
 * - waking: `divert` (the machine may bind its ports), the machine starts, `giveBack`.
 */
export class StandIns {
  readonly #host: Pick<Host, "files">;
  readonly #table: PortTable | undefined;
  readonly #onError: (id: string, error: unknown) => void;
  readonly #all = new Map<string, StandIn>();
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #listeners = new Set<(id: string) => void>();

  constructor(options: {
    readonly host: Pick<Host, "files">;
    /** Without one nobody is stood in for: no port could change hands without somebody being refused. */
    readonly table: PortTable | undefined;
    /** Told of what goes wrong while nobody waits for it. */
    readonly onError: (id: string, error: unknown) => void;
  }) {
    this.#host = options.host;
    this.#table = options.table;
    this.#onError = options.onError;
  }

  /** Has new connections come here, while those that are open go on. Afterwards the machine still has the ports, or may bind them. */
  divert(id: string, ports: readonly PortForward[]): Promise<void> {
    return this.#inTurn(id, async () => this.#standIn(id)?.divert(ports));
  }

  /** Makes the ports the daemon's own; the machine must have left them. Rejects with `port_taken`, and then stands in for nothing. */
  own(id: string, ports: readonly PortForward[]): Promise<void> {
    return this.#inTurn(id, async () => this.#standIn(id)?.own(ports));
  }

  /** Has new connections go to the machine again, and relays those that are held; at once when nothing was held. */
  giveBack(id: string): Promise<void> {
    return this.#inTurn(id, async () => this.#all.get(id)?.giveBack());
  }

  /** Lets go of the ports and of all who came here; at once when nothing is stood in for. */
  letGo(id: string): Promise<void> {
    return this.#inTurn(id, async () => {
      const standIn = this.#all.get(id);
      this.#all.delete(id);
      await standIn?.close();
    });
  }

  /** Closes the connections that are held, and goes on. */
  turnAway(id: string): void {
    this.#all.get(id)?.turnAway();
  }

  /** Whether new connections come here. */
  holds(id: string): boolean {
    return this.#all.get(id)?.holds ?? false;
  }

  /** How many connections are held. */
  waiting(id: string): number {
    return this.#all.get(id)?.waiting ?? 0;
  }

  /** How many connections pass through the daemon, those that are held not among them. */
  relayed(id: string): number {
    return this.#all.get(id)?.relayed ?? 0;
  }

  /** Calls back with the instance's id for each connection that begins to wait; returns what ends that. */
  onKnock(listener: (id: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Lets go of everything: whoever has a port has it for himself again. */
  async close(): Promise<void> {
    await Promise.all([...this.#all.keys()].map((id) => this.letGo(id)));
  }

  #standIn(id: string): StandIn | undefined {
    const present = this.#all.get(id);
    if (present || !this.#table) return present;
    const standIn = new StandIn({
      host: this.#host,
      table: this.#table,
      onKnock: () => {
        for (const listener of this.#listeners) listener(id);
      },
      onError: (error) => this.#onError(id, error),
    });
    this.#all.set(id, standIn);
    return standIn;
  }

  /** What concerns one instance happens one after the other. */
  #inTurn<T>(id: string, act: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(id) ?? Promise.resolve()).then(act);
    const settled = turn
      .catch(() => undefined)
      .finally(() => {
        if (this.#turns.get(id) === settled) this.#turns.delete(id);
      });
    this.#turns.set(id, settled);
    return turn;
  }
}
