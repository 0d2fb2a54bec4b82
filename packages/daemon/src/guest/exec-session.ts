import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import type { ClientChannel } from "ssh2";

/** A program running in the guest. Unread output stops the program at the end of SSH's window; nothing is collected here. */
export class ExecSession {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** How it ended: 128 and the signal's number when a signal ended it, 255 when the connection broke first. It never rejects. */
  readonly exit: Promise<{ readonly code: number }>;
  readonly #channel: ClientChannel;

  constructor(channel: ClientChannel) {
    this.#channel = channel;
    this.stdin = channel;
    this.stdout = channel;
    this.stderr = channel.stderr;
    // A broken connection shows in the exit code; a program that does not read its input is no error.
    channel.on("error", () => {});
    this.exit = new Promise((resolve) => {
      channel.once("exit", (code: number | null, signal?: string) => resolve({ code: code ?? signalCode(signal) }));
      channel.once("close", () => resolve({ code: 255 }));
    });
  }

  /** Tells the program's terminal its new size. */
  resize(cols: number, rows: number): void {
    this.#channel.setWindow(rows, cols, 0, 0);
  }

  /** Sends a signal by its name without SIG: `TERM`. */
  signal(name: string): void {
    this.#channel.signal(name);
  }

  /** Ends the session and the program with it. */
  close(): void {
    if (this.#channel.destroyed) return;
    this.#channel.signal("HUP");
    this.#channel.destroy();
  }
}

function signalCode(name: string | undefined): number {
  return 128 + ((constants.signals as Partial<Record<string, number>>)[`SIG${name}`] ?? 0);
}
