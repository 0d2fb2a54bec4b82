import type { Duplex } from "node:stream";
import { BerthError } from "@berth/api";
import type { GuestConfig } from "./config.ts";
import { type GuestFact, parseFact } from "./facts.ts";
import { LineSplitter } from "./line-splitter.ts";

/** The longest line the guest takes, and the longest it sends, in bytes. */
const commandLimit = 256 * 1024;
const factLimit = 16 * 1024;

/** The host's side of a guest's control port. It owns the stream. */
export class GuestControl {
  readonly #stream: Duplex;
  readonly #splitter = new LineSplitter(factLimit);

  /** Asks the guest at once who it is: its hello tells all that was missed. */
  constructor(stream: Duplex) {
    this.#stream = stream;
    // A stream that breaks ends the facts; there is nothing else to do about it.
    stream.on("error", () => {});
    this.#send({ command: "hello" });
  }

  /** What the guest says, until the port closes. Anything that is no fact is left out. To be read once. */
  async *facts(): AsyncGenerator<GuestFact> {
    try {
      for await (const chunk of this.#stream) {
        for (const line of this.#splitter.push(chunk)) {
          const fact = parseFact(line);
          if (fact) yield fact;
        }
      }
    } catch {
      // The port is gone: the facts end here.
    }
  }

  /** Hands a prepared guest its configuration; one that already runs ignores it. Throws BerthError `invalid_request` when it is too long. */
  configure(config: GuestConfig): void {
    this.#send({ command: "configure", ...config });
  }

  /** Asks the process to end: the signal now (by number), the power after the time limit. A process that would not notice the signal is not waited for. */
  stop({ signal, timeoutMs }: { signal: number; timeoutMs: number }): void {
    this.#send({ command: "stop", signal, timeoutMs });
  }

  /** Stops all writing to the root disk; the guest resumes by itself after two seconds. */
  freeze(): void {
    this.#send({ command: "freeze" });
  }

  thaw(): void {
    this.#send({ command: "thaw" });
  }

  /** Makes all programs of the image stand still; the guest lets them go on by itself after two seconds, unless it finds itself in another machine by then. */
  hold(): void {
    this.#send({ command: "hold" });
  }

  release(): void {
    this.#send({ command: "release" });
  }

  /** Tells a guest that holds in another machine who it is. Throws BerthError `invalid_request` when it is too long. */
  identify(config: GuestConfig): void {
    this.#send({ command: "identify", ...config });
  }

  /** Has readiness tell of these ports from now on. */
  watch(watchPorts: readonly number[]): void {
    this.#send({ command: "watch", watchPorts });
  }

  /** Has the guest grow its file systems to its disks, once each has as many bytes as are told here. */
  grow(diskBytes: readonly number[]): void {
    this.#send({ command: "grow", diskBytes });
  }

  close(): void {
    this.#stream.destroy();
  }

  #send(command: object): void {
    // The first newline ends what an earlier connection may have left half sent.
    const line = `\n${JSON.stringify(command)}\n`;
    if (Buffer.byteLength(line) > commandLimit) {
      throw new BerthError(
        "invalid_request",
        `Command and environment together are longer than ${commandLimit / 1024} KiB.`,
      );
    }
    this.#stream.write(line);
  }
}
