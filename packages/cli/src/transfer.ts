import { setTimeout as delay } from "node:timers/promises";
import type { Context } from "./command.ts";
import { Exit, exitCodes } from "./errors.ts";
import { bytes, plainText } from "./text.ts";

/** How often a transfer that gets no further is taken up again before it is given up. */
const attempts = 6;
/** The first pause before that, in milliseconds; doubled each time. */
const pauseMs = 250;
const redrawMs = 200;

/** What a transfer works with. */
export interface Transfer {
  readonly name: string;
  readonly totalBytes: number;
  /** How much is already over. */
  position(): Promise<number>;
  /** Sends or fetches what is missing from there on, telling how far it is; it may break off anywhere. */
  go(from: number, signal: AbortSignal, told: (position: number) => void): Promise<void>;
}

/**
 * Carries a transfer to its end, taking it up again where it broke off. Rejects with what the server refuses, or with the last error when it gets no further; Ctrl-C leaves it
 * as it is.
 */
export async function carry(context: Context, transfer: Transfer): Promise<void> {
  const left = new AbortController();
  const stopListening = context.outside.onInterrupt(() => left.abort());
  const progress = new TransferProgress(context, transfer);
  try {
    let failures = 0;
    for (let position = await transfer.position(); position < transfer.totalBytes; ) {
      const from = position;
      try {
        progress.show(position);
        await transfer.go(position, left.signal, (now) => progress.show(now));
      } catch (error) {
        if (left.signal.aborted) throw new Exit(exitCodes.interrupted);
        if (isRefusal(error) || failures + 1 >= attempts) throw error;
      }
      position = await transfer.position();
      failures = position > from ? 0 : failures + 1;
      if (failures > 0) await delay(pauseMs * 2 ** failures, undefined, { signal: left.signal });
    }
  } catch (error) {
    throw left.signal.aborted ? new Exit(exitCodes.interrupted) : error;
  } finally {
    stopListening();
    progress.end();
    if (left.signal.aborted) context.out.say("It can be gone on with: give the same command again.");
  }
}

/** Whether the server has said no, which it would again. */
function isRefusal(error: unknown): boolean {
  const { problem } = error as { problem?: { status?: number } };
  return problem?.status !== undefined && problem.status < 500;
}

/** One line on a terminal that tells how far a transfer is. */
class TransferProgress {
  readonly #context: Context;
  readonly #transfer: Transfer;
  #drawnAt = Number.NEGATIVE_INFINITY;

  constructor(context: Context, transfer: Transfer) {
    this.#context = context;
    this.#transfer = transfer;
  }

  show(position: number): void {
    const { stderr, env } = this.#context.outside;
    const now = performance.now();
    if (!stderr.isTTY || env.TERM === "dumb" || now - this.#drawnAt < redrawMs) return;
    this.#drawnAt = now;
    const { name, totalBytes } = this.#transfer;
    const percent = Math.floor((100 * position) / totalBytes);
    stderr.write(`\r\x1b[K${plainText(name)}  ${percent} %  ${bytes(position)} of ${bytes(totalBytes)}`);
  }

  end(): void {
    if (this.#drawnAt > Number.NEGATIVE_INFINITY) this.#context.outside.stderr.write("\r\x1b[K");
  }
}
