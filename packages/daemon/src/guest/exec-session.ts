import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { BerthError, type ExecSignal } from "@berth/api";
import type { ClientChannel } from "ssh2";

/** What ssh2 keeps to itself and `signal` needs: its own refuses once the input has ended. */
interface ChannelInternals {
  readonly outgoing: { readonly id: number; readonly state: string };
  readonly _client: { readonly _protocol: { signal(id: number, name: string): void } };
}

/** A program running in the guest. Unread output stops the program at the end of SSH's window; nothing is collected here. */
export class ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Null with a terminal: there is only one stream then. */
  readonly stderr: Readable | null;
  /** How it ended: 128 and the signal's number when a signal ended it. Rejects with BerthError `guest_unreachable` when the guest was lost first. */
  readonly exit: Promise<{ readonly code: number }>;
  /** Resolves when nothing of it is left in the guest. */
  readonly closed: Promise<void>;
  readonly #channel: ClientChannel;
  #ended = false;
  #closed = false;

  /** To be made as soon as ssh2 hands over the channel: its exit may come in the same breath. `lost` is aborted when the connection is gone. */
  constructor(channel: ClientChannel, options: { tty: boolean; lost: AbortSignal }) {
    this.#channel = channel;
    this.stdin = channel;
    this.stdout = channel;
    this.stderr = options.tty ? null : channel.stderr;
    // A broken connection shows in `exit`; a program that does not read its input is no error.
    channel.on("error", () => {});
    // ssh2 would close its end while output is under way and then still acknowledge it, at which dropbear ends the whole connection.
    channel.destroy = () => {
      // Node calls it too when both directions have ended, which is no reason to end the program.
      if (!channel.readableEnded) this.close();
      return channel;
    };
    this.closed = new Promise((resolve) => channel.once("close", () => resolve()));
    this.exit = new Promise((resolve, reject) => {
      const lose = () =>
        reject(new BerthError("guest_unreachable", "The connection to the guest broke before the program ended."));
      channel.once("exit", (code: number | null, name?: string) => {
        this.#ended = true;
        resolve({ code: code ?? 128 + (signalNumbers[`SIG${name}`] ?? 0) });
      });
      const { lost } = options;
      lost.addEventListener("abort", lose, { once: true });
      channel.once("close", () => {
        lost.removeEventListener("abort", lose);
        lose();
      });
    });
    this.exit.catch(() => {});
  }

  /** Tells the program's terminal its new size. */
  resize(cols: number, rows: number): void {
    this.#channel.setWindow(rows, cols, 0, 0);
  }

  signal(name: ExecSignal): void {
    this.#signal(name);
  }

  /** Ends the session and the program with it; may be called more than once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#signal("HUP");
    // What is still under way is read and dropped; the guest closes its end when the program and all it started are gone.
    this.#channel.resume();
    this.#channel.stderr.resume();
  }

  #signal(name: string): void {
    const { outgoing, _client } = this.#channel as unknown as ChannelInternals;
    if (!this.#ended && (outgoing.state === "open" || outgoing.state === "eof"))
      _client._protocol.signal(outgoing.id, name);
  }
}

const signalNumbers: Partial<Record<string, number>> = constants.signals;
