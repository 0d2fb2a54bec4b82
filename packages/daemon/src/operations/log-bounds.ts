import { stripVTControlCharacters } from "node:util";

/** How much of a log is kept: its beginning and its end. Bytes are UTF-8. */
export interface LogLimits {
  readonly head: { readonly lines: number; readonly bytes: number };
  readonly tail: { readonly lines: number; readonly bytes: number };
}

export const defaultLogLimits: LogLimits = {
  head: { lines: 1000, bytes: 256 * 1024 },
  tail: { lines: 4000, bytes: 768 * 1024 },
};

/** The longest line kept, in characters. */
const maxLine = 4000;

/** Decides which lines of a log are kept. It only counts; the lines themselves are elsewhere. */
export class LogBounds {
  readonly #limits: LogLimits;
  #lastSeq = 0;
  #headEnd = 0;
  #headBytes = 0;
  #headClosed = false;
  readonly #tail: { readonly seq: number; readonly bytes: number }[] = [];
  #tailBytes = 0;
  #leftOutTo = 0;

  constructor(limits: LogLimits) {
    this.#limits = limits;
  }

  /** Counts a line in and numbers it; `seq` is given for one that is kept already. */
  add(line: string, seq = this.#lastSeq + 1): number {
    const bytes = Buffer.byteLength(line);
    const { head } = this.#limits;
    if (seq !== this.#lastSeq + 1 || this.#headEnd >= head.lines || this.#headBytes + bytes > head.bytes) {
      this.#headClosed = true;
    }
    this.#lastSeq = seq;
    if (this.#headClosed) this.#addToTail(seq, bytes);
    else {
      this.#headEnd = seq;
      this.#headBytes += bytes;
    }
    return seq;
  }

  #addToTail(seq: number, bytes: number): void {
    const { tail } = this.#limits;
    this.#tail.push({ seq, bytes });
    this.#tailBytes += bytes;
    while (this.#tail.length > tail.lines || (this.#tailBytes > tail.bytes && this.#tail.length > 1)) {
      const oldest = this.#tail.shift();
      if (!oldest) return;
      this.#tailBytes -= oldest.bytes;
      this.#leftOutTo = oldest.seq;
    }
  }

  /** The numbers of the lines to leave out: those above `after`, up to `to`. Empty when `to` is not larger. */
  get leftOut(): { readonly after: number; readonly to: number } {
    return { after: this.#headEnd, to: this.#leftOutTo };
  }
}

/** A line as it is kept: without control characters, so that it does nothing to a terminal, and not too long. */
export function cleanLine(line: string): string {
  const printable = stripVTControlCharacters(line).replaceAll(/[^\P{C}\t]/gu, "");
  return printable.length > maxLine ? `${printable.slice(0, maxLine)}…` : printable;
}
