import { type Duplex, duplexPair } from "node:stream";
import { BerthError } from "@berth/api";
import type { GuestPort } from "../driver.ts";
import { serveChannel } from "./channel.ts";
import { serveControl } from "./control.ts";
import { isPoweredOn } from "./machine.ts";
import type { World } from "./world.ts";

/** One end of an open port: the guest's side, and how to make it look again at its machine. */
interface OpenPort {
  readonly guestSide: Duplex;
  look(): void;
}

/** The ports of fake guests, served within this process for as long as someone is connected. */
export class GuestPorts {
  readonly #world: World;
  readonly #open = new Map<string, OpenPort>();

  constructor(world: World) {
    this.#world = world;
  }

  /** Connects to a port. One client at a time: the next is refused until the first has left. */
  open(id: string, port: GuestPort, signal: AbortSignal): Duplex {
    signal.throwIfAborted();
    const key = `${id} ${port}`;
    if (this.#open.has(key)) throw new BerthError("busy", `Someone is connected to the ${port} of the fake machine.`);
    const [hostSide, guestSide] = duplexPair({ allowHalfOpen: false });
    const served = this.#serve(id, port, guestSide);
    this.#open.set(key, { guestSide, look: served });
    guestSide.on("error", () => {});
    guestSide.once("close", () => {
      this.#open.delete(key);
      // What was said before a proper end may still be unread.
      if (!guestSide.writableFinished) hostSide.destroy();
    });
    hostSide.once("close", () => guestSide.destroy());
    return hostSide;
  }

  /** Has the guest look at its machine, which has changed. */
  look(id: string): void {
    for (const port of this.#of(id)) port.look();
  }

  /** Ends every connection to a machine. */
  close(id: string): void {
    for (const port of this.#of(id)) port.guestSide.destroy();
  }

  #of(id: string): OpenPort[] {
    return [...this.#open].filter(([key]) => key.startsWith(`${id} `)).map(([, port]) => port);
  }

  #serve(id: string, port: GuestPort, stream: Duplex): () => void {
    if (port === "control") return serveControl(this.#world, id, stream, () => this.look(id));
    if (port === "channel") serveChannel(this.#world, id, stream);
    else serveConsole(this.#world, id, stream);
    return () => void this.#endWhenOff(id, stream);
  }

  async #endWhenOff(id: string, stream: Duplex): Promise<void> {
    const record = await this.#world.read(id);
    if (!record || !isPoweredOn(record)) stream.end();
  }
}

/** A console that answers with what is typed, and logs it. */
function serveConsole(world: World, id: string, stream: Duplex): void {
  let line = "";
  stream.on("data", (chunk: Buffer) => {
    stream.write(chunk);
    line += chunk.toString("utf8");
    const complete = line.lastIndexOf("\n");
    if (complete < 0) return;
    void world.appendLog(id, line.slice(0, complete + 1));
    line = line.slice(complete + 1);
  });
}
