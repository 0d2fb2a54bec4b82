import { StringDecoder } from "node:string_decoder";

interface OutputLimits {
  /** Keep the beginning up to this many bytes; beyond it `onOverflow` is called once and the rest dropped. */
  readonly keepFirst?: number;
  readonly onOverflow?: () => void;
  /** Keep about this many bytes of the end. */
  readonly keepLast?: number;
  /** Called with each line, without its end; one longer than 64 KiB comes in pieces. */
  readonly onLine?: (line: string) => void;
}

const maxLineLength = 64 * 1024;

/** Gathers what a program writes, within bounds, and cuts it into lines. */
export class OutputCollector {
  readonly #limits: OutputLimits;
  readonly #decoder = new StringDecoder("utf8");
  #chunks: Buffer[] = [];
  #bytes = 0;
  #overflowed = false;
  #line = "";

  constructor(limits: OutputLimits) {
    this.#limits = limits;
  }

  add(chunk: Buffer): void {
    this.#keep(chunk);
    if (this.#limits.onLine) this.#cut(this.#decoder.write(chunk), this.#limits.onLine);
  }

  /** What was kept. Also hands over a last line that has no end. */
  text(): string {
    if (this.#line && this.#limits.onLine) this.#limits.onLine(this.#line);
    this.#line = "";
    return Buffer.concat(this.#chunks).toString("utf8");
  }

  #keep(chunk: Buffer): void {
    const { keepFirst, keepLast, onOverflow } = this.#limits;
    if (this.#overflowed) return;
    if (keepFirst !== undefined && this.#bytes + chunk.length > keepFirst) {
      this.#overflowed = true;
      onOverflow?.();
      return;
    }
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (keepLast === undefined) return;
    while (this.#chunks.length > 1 && this.#bytes - (this.#chunks[0]?.length ?? 0) >= keepLast) {
      this.#bytes -= this.#chunks.shift()?.length ?? 0;
    }
  }

  #cut(text: string, onLine: (line: string) => void): void {
    const lines = (this.#line + text).split("\n");
    this.#line = lines.pop() ?? "";
    for (const line of lines) onLine(line.endsWith("\r") ? line.slice(0, -1) : line);
    while (this.#line.length > maxLineLength) {
      onLine(this.#line.slice(0, maxLineLength));
      this.#line = this.#line.slice(maxLineLength);
    }
  }
}
