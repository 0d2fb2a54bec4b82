import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { BerthError, type ExecSignal } from "@berth/api";
import type { ClientChannel } from "ssh2";

/** A program running in the guest. Unread output stops the program at the end of SSH's window; nothing is collected here. */
export class ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Null with a terminal: there is only one stream then. */
  readonly stderr: Readable | null;
  /** How it ended: 128 and the signal's number when a signal ended it. Rejects with BerthError `guest_unreachable` when the guest was lost first. */
  readonly exit: Promise<{ readonly code: number }>;
  readonly #channel: ClientChannel;

  constructor(channel: ClientChannel, options: { tty: boolean }) {
    this.#channel = channel;
    this.stdin = channel;
    this.stdout = channel;
    this.stderr = options.tty ? null : channel.stderr;
    // A broken connection shows in `exit`; a program that does not read its input is no error.
    channel.on("error", () => {});
    this.exit = exitOf(channel);
    this.exit.catch(() => {});
  }

  /** Tells the program's terminal its new size. */
  resize(cols: number, rows: number): void {
    this.#channel.setWindow(rows, cols, 0, 0);
  }

  signal(name: ExecSignal): void {
    this.#channel.signal(name);
  }

  /** Ends the session and the program with it; may be called more than once. */
  close(): void {
    if (this.#channel.destroyed) return;
    this.#channel.signal("HUP");
    this.#channel.destroy();
  }
}

function exitOf(channel: ClientChannel): Promise<{ code: number }> {
  return new Promise((resolve, reject) => {
    channel.once("exit", (code: number | null, name?: string) =>
      resolve({ code: code ?? 128 + (signalNumbers[`SIG${name}`] ?? 0) }),
    );
    channel.once("close", () =>
      reject(new BerthError("guest_unreachable", "The connection to the guest broke before the program ended.")),
    );
  });
}

const signalNumbers: Partial<Record<string, number>> = constants.signals;
